"""Client library and command line of the p2petd energy trading node."""
