"""Built-in tasks with reference networks of the MLPerf Tiny benchmark and their published weights.

The modules provide networks, and register recipes of tasks in `lionheart.tasks.TASKS`. This package must not depend on
mappings, chips or search.
"""
