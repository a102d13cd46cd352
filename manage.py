#!/usr/bin/env python
"""Run a management command. Without DATABASE_URL, the embedded database is lent to it."""

import os
import sys

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "definable.settings")
    from django.core.management import execute_from_command_line

    from definable.launcher.borrow import borrow_database

    borrow_database(sys.argv[1:])
    execute_from_command_line(sys.argv)
