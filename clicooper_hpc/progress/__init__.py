"""How far a long command is: a live line on a terminal, else a line now and then."""
