"""Run the catalog: `python -m services.catalog --help`."""

from services.catalog.app import create_app
from services.common.launch import launch
from services.common.settings import CatalogSettings

if __name__ == "__main__":
    launch(CatalogSettings, lambda _: "catalog", create_app)
