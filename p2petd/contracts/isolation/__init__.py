"""Contracts of other packages run in a process of their own, with a list of permitted imports and a budget.

The only part of `contracts` that is not pure: it keeps the foreign ones so.
"""
