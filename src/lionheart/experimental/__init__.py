"""Experimental packages: their interfaces may change or disappear between versions."""
