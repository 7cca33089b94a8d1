"""Run one order replica: `python -m services.order --help`."""

from services.common.launch import launch
from services.common.settings import OrderSettings
from services.order.app import create_app

if __name__ == "__main__":
    launch(OrderSettings, lambda settings: f"order-{settings.replica_id}", create_app)
