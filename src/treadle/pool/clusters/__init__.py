"""Engines on clusters that somebody else operates: `base.py` has what they share, each other module is one cluster."""
