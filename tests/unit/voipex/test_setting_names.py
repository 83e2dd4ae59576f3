"""One environment may feed every service, so each must know the settings of all."""

from bridge import settings
from consumers.settings import Settings
from voipex.service import settings as environment
from voipex.service.settings import SETTING_NAMES


def test_the_names_of_all_settings_are_those_of_the_classes() -> None:
    """A name that is missing would be called a typing error; one too many would hide one."""
    assert {*settings.Settings.model_fields, *Settings.model_fields} == SETTING_NAMES
    assert environment.ServiceSettings.model_fields.keys() <= SETTING_NAMES
