"""Settings of all tests."""

from hypothesis import settings

# The machine's load must not fail a property.
settings.register_profile("p2petd", deadline=None)
settings.load_profile("p2petd")
