"""Plans that several tests look at."""

from experiments.training.plan import settings
from replication.planning.page import plan_of
from replication.planning.plan import Plan

SMALL = "--train.prompts 4 --rollout.group_size 8 --rollout.max_rows 16 --train.micro_rows 8"


def paper(model: str, flags: str = "") -> Plan:
    """The plan of a model of params.yaml, with flags as on the command line."""
    return plan_of(settings(model, flags))
