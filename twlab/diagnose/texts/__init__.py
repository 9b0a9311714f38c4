"""Parsers of what other tools print about TCP, a format a module."""
