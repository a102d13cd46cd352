from django.apps import AppConfig


class DefinableConfig(AppConfig):
    name = "definable"

    def ready(self) -> None:
        from definable import checks  # noqa: F401 - registers them
