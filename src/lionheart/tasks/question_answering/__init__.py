"""Built-in tasks with question answering on SQuAD and SQuADShifts.

The modules provide batches of questions, networks and scores, and register recipes of tasks in `lionheart.tasks.TASKS`. This
package must not depend on mappings, chips or search.
"""
