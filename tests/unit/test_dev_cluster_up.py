"""What `rdv dev-cluster up` looks at before it starts anything."""

import os

import pytest

from rdv.cli.devcluster_up import check_account
from rdv.errors import ConfigError


def test_a_user_without_an_account_is_told_so() -> None:
    """Nomad looks its user up before each task, so a number alone is refused at once; whoever runs this is not."""
    check_account(os.geteuid())
    with pytest.raises(ConfigError, match="user 4294967290 has no account here"):
        check_account(4294967290)
