"""The module that Django looks for in a database backend."""

import select
from typing import Any

import psycopg
from django.db.backends.postgresql import base
from psycopg_pool import ConnectionPool


class DatabaseWrapper(base.DatabaseWrapper):
    """
    A connection of the pool that the server still knows.

    Django's own check (CONN_HEALTH_CHECKS) asks the server each time: a round trip more for every
    connection handed out, three in a call.
    """

    def get_new_connection(self, conn_params: dict[str, Any]) -> psycopg.Connection:
        """Return a connection of the pool; those that the server has ended are replaced."""
        while True:
            connection = super().get_new_connection(conn_params)
            if is_alive(connection):
                return connection
            connection._pool.putconn(connection)  # a broken one is thrown away, and a new one made


def is_alive(connection: psycopg.Connection) -> bool:
    """
    Say whether the server still knows this idle connection.

    A server says nothing on an idle connection until it ends it, so only one with something to read is asked.
    """
    socket = select.poll()  # not select(), which knows no sockets with numbers above 1,023
    socket.register(connection.fileno(), select.POLLIN)
    if not socket.poll(0):
        return True
    try:
        ConnectionPool.check_connection(connection)
    except psycopg.OperationalError:
        return False
    return True
