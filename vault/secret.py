"""A value that must not be shown."""

from typing import NoReturn

MASK = "Secret(***)"


class Secret:
    """
    A string without a string form.

    Printing and formatting give a mask; copying, pickling, comparing and hashing raise
    TypeError. `use()` is the one way to the value: call it where the value leaves for its
    owner (an Authorization header), and keep the result in no variable that outlives that.
    """

    __slots__ = ("__value",)

    def __init__(self, value: str) -> None:
        if not isinstance(value, str):
            raise TypeError("A secret is made from text.")
        self.__value = value

    def use(self) -> str:
        """Return the value."""
        return self.__value

    def __repr__(self) -> str:
        return MASK

    def __format__(self, spec: str) -> str:
        return MASK

    def _refuse(self, *args: object) -> NoReturn:
        raise TypeError("A secret cannot be copied, compared, hashed or stored.")

    # Comparing would invite looking secrets up by value, and `==` leaks time.
    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __hash__ = _refuse
    __copy__ = __deepcopy__ = __reduce__ = __reduce_ex__ = __getstate__ = _refuse

    def __init_subclass__(cls) -> NoReturn:
        raise TypeError("A secret has no kinds: a subclass could show it.")
