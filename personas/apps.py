from django.apps import AppConfig


class PersonasConfig(AppConfig):
    name = "personas"

    def ready(self) -> None:
        from integrations.catalog_reading import also_read_endpoints_of
        from personas.queries import models_in_use

        also_read_endpoints_of(models_in_use)
