"""
The list of 371 models: server time, questions to the database and bytes of the page, and of a filter's fragment.

    .venv/bin/python -m bench catalog

The models are those of the stand-in and copies of them.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from bench._pages import VISITS, measure, served, tell, visitor

MODELS = 371
AIMS = {"page": 150, "fragment": 80}  # ms, 95 of 100 visits
FRAGMENT = {"HX-Request": "true", "HX-Request-Type": "partial"}
FILTERED = "?zdr=1&tools=1&context=200000&sort=price_in"


def run() -> dict:
    """Measure, print it beside the aims, and return the figures."""
    from tests.factories import make_team

    with catalog_of(MODELS), served():
        visit = visitor(make_team(), "model_list")
        found = {
            "page": measure(visit),
            "filtered page": measure(visit, FILTERED),
            "fragment": measure(visit, FILTERED, FRAGMENT),
        }
    for name, figures in found.items():
        tell(name, figures, AIMS[name.split()[-1]])
    return {"name": "catalog", "models": MODELS, "visits": VISITS, **found}


@contextmanager
def catalog_of(count: int) -> Iterator[None]:
    """A catalog of so many models: those of the stand-in, and copies of them."""
    from integrations import catalog
    from integrations.models import Catalog, CatalogEndpoint, CatalogModel
    from tests.integrations.catalog_fixture import read_catalog
    from tests.sandbox_fixture import start_sandbox

    sandbox = start_sandbox()
    try:
        read_catalog(sandbox)
        rows = list(CatalogModel.objects.order_by("pk").values())
        for number in range(count - len(rows)):
            row = rows[number % len(rows)]
            copy = CatalogModel.objects.create(**row | {"id": None, "model_id": f"{row['model_id']}-{number}"})
            offers = CatalogEndpoint.objects.filter(model_id=row["id"]).values()
            CatalogEndpoint.objects.bulk_create(
                CatalogEndpoint(**offer | {"id": None, "model_id": copy.pk}) for offer in offers
            )
        Catalog.objects.update(version=2)
        catalog.forget()
        yield
    finally:
        sandbox.stop()
