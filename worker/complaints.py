"""What a user can mend is one sentence on stderr and exit status 1.

Stage: below the command lines, :mod:`worker.cli` and :mod:`worker.models_cli`.
"""

from collections.abc import Callable
from typing import Any

import click

from producer.errors import FleetError
from worker import assets, models, settings


def checked(work: Callable[..., Any], *args: Any, **named: Any) -> Any:
    """Call ``work`` and turn what a user can mend into one sentence."""
    try:
        return work(*args, **named)
    except (settings.SettingsError, models.ModelError, assets.AssetError, FleetError) as error:
        raise click.ClickException(str(error)) from error


def chosen_settings() -> settings.Settings:
    """Return the settings of the environment."""
    return checked(settings.load)  # type: ignore[no-any-return]
