"""Experimental packages, whose interfaces may change or be removed in any version."""
