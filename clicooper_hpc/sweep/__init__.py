"""`clicooper sweep`: a job with several values of its keys, run after run on one machine."""
