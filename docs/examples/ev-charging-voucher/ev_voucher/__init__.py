"""Vouchers for charging an electric vehicle: a contract for p2petd."""
