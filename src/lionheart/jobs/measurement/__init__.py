"""Measurements of jobs: chips that decide, sensitivities, rankings."""
