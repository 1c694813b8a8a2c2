"""`clicooper submit`: a job as a Slurm script.

`request` decides what to ask for, `script` writes it down, both pure; `submit` is the edge, where
files are written and `sbatch` is called.
"""
