"""What is asked of AWS: a CloudFormation stack with one machine, and whether anything is left of it.

boto3 speaks to AWS, or to moto in tests. Every wait has an end.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
from botocore.exceptions import ClientError, WaiterError

from services.cluster.errors import CannotDo

if TYPE_CHECKING:
    from types_boto3_cloudformation.type_defs import StackTypeDef, WaiterConfigTypeDef
    from types_boto3_ec2.type_defs import FilterTypeDef, InstanceTypeDef, VolumeTypeDef

HERE = Path(__file__).parent
TEMPLATE = HERE / "template.yaml"
USER_DATA = HERE / "user-data.yaml"

TAG = "bazaar-evaluation"
"""The key of the tag that everything we make carries; its value is the stack's name."""
IMAGE = "/aws/service/debian/release/12/latest/amd64"
"""The SSM parameter in which Debian publishes its newest image."""
POLL_S = 5
POLLS = 120  # ten minutes
GONE = {"terminated", "shutting-down"}


@dataclass(frozen=True)
class Machine:
    """The stack's machine as AWS sees it; `address` is None while or when it has none."""

    machine_id: str
    machine_type: str
    state: str
    address: str | None
    started_at: datetime

    def hours_run(self, now: datetime) -> float:
        """How long it has cost money by then."""
        return (now - self.started_at).total_seconds() / 3600


def user_data(public_key: str, hours: int) -> str:
    """What the machine does at its start. It lets this key in, and ends itself after so many hours."""
    kind_and_key = " ".join(public_key.split()[:2])  # without its comment, which may be anything
    text = USER_DATA.read_text(encoding="utf-8")
    return text.replace("@PUBLIC_KEY@", kind_and_key).replace("@HOURS@", str(hours))


def parameters(user_data_text: str, ssh_from: str, public_from: str, image: str = IMAGE) -> dict[str, str]:
    """The template's parameters. Addresses are written 198.51.100.7/32; `image` is an SSM parameter."""
    return {
        "Image": image,
        "SshFrom": ssh_from,
        "PublicFrom": public_from,
        "UserData": base64.b64encode(user_data_text.encode()).decode(),
    }


class Stack:
    """One stack in one region."""

    def __init__(self, name: str, region: str, poll_s: int = POLL_S) -> None:
        self.name = name
        self.region = region
        self._cloudformation = boto3.client("cloudformation", region_name=region)
        self._ec2 = boto3.client("ec2", region_name=region)
        self._patience: WaiterConfigTypeDef = {"Delay": poll_s, "MaxAttempts": POLLS}

    def status(self) -> str | None:
        """The stack's status, such as CREATE_COMPLETE; None when there is no stack of this name."""
        found = self._find()
        return found["StackStatus"] if found else None

    def create(self, values: Mapping[str, str]) -> None:
        """Make the stack and wait for it. Raises CannotDo with AWS's reasons; what was made is removed then."""
        stack_id = self._cloudformation.create_stack(
            StackName=self.name,
            TemplateBody=TEMPLATE.read_text(encoding="utf-8"),
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in values.items()],
            Tags=[{"Key": TAG, "Value": self.name}],
            OnFailure="DELETE",
            TimeoutInMinutes=10,
        )["StackId"]
        try:
            waiter = self._cloudformation.get_waiter("stack_create_complete")
            waiter.wait(StackName=stack_id, WaiterConfig=self._patience)
        except WaiterError as error:
            raise CannotDo(f"the stack {self.name} was not made: {self._reasons(stack_id)}") from error

    def machine(self) -> Machine | None:
        """The stack's machine; None when there is none, or none any more."""
        found = self._instances([{"Name": f"tag:{TAG}", "Values": [self.name]}])
        if not found:
            return None
        instance = found[0]
        return Machine(
            machine_id=instance["InstanceId"],
            machine_type=instance["InstanceType"],
            state=instance["State"]["Name"],
            address=instance.get("PublicIpAddress"),
            started_at=instance["LaunchTime"],
        )

    def delete(self) -> None:
        """Remove the stack with all that is in it, and wait. Raises CannotDo with AWS's reasons."""
        found = self._find()
        if found is None:
            return
        stack_id = found["StackId"]
        self._cloudformation.delete_stack(StackName=stack_id)
        try:
            waiter = self._cloudformation.get_waiter("stack_delete_complete")
            waiter.wait(StackName=stack_id, WaiterConfig=self._patience)
        except WaiterError as error:
            raise CannotDo(f"the stack {self.name} is not gone: {self._reasons(stack_id)}; try again") from error

    def leftovers(self) -> list[str]:
        """All that carries our tag in this region, whichever stack made it: what may still cost money."""
        tagged: list[FilterTypeDef] = [{"Name": "tag-key", "Values": [TAG]}]
        ec2 = self._ec2
        return [
            *(f"machine {each['InstanceId']} ({each['State']['Name']})" for each in self._instances(tagged)),
            *(f"volume {each['VolumeId']}" for each in self._volumes(tagged)),
            *(f"address {each['PublicIp']}" for each in ec2.describe_addresses(Filters=tagged)["Addresses"]),
            *(f"firewall {each['GroupId']}" for each in ec2.describe_security_groups(Filters=tagged)["SecurityGroups"]),
            *([f"stack {self.name}"] if self.status() is not None else []),
        ]

    def _find(self) -> "StackTypeDef | None":
        try:
            return self._cloudformation.describe_stacks(StackName=self.name)["Stacks"][0]
        except ClientError as error:
            if "does not exist" in error.response["Error"]["Message"]:
                return None
            raise

    def _instances(self, filters: Sequence["FilterTypeDef"]) -> list["InstanceTypeDef"]:
        """Those that are not gone: AWS shows them for an hour more, and asks nothing for that."""
        pages = self._ec2.get_paginator("describe_instances").paginate(Filters=filters)
        found = [each for page in pages for reservation in page["Reservations"] for each in reservation["Instances"]]
        return [each for each in found if each["State"]["Name"] not in GONE]

    def _volumes(self, filters: Sequence["FilterTypeDef"]) -> list["VolumeTypeDef"]:
        found = self._ec2.describe_volumes(Filters=filters)["Volumes"]
        return [each for each in found if each["State"] != "deleting"]

    def _reasons(self, stack_id: str) -> str:
        events = self._cloudformation.describe_stack_events(StackName=stack_id)["StackEvents"]
        failed = [each for each in reversed(events) if each.get("ResourceStatus", "").endswith("FAILED")]
        reasons = [
            f"{each['LogicalResourceId']}: {each.get('ResourceStatusReason', 'no reason given')}" for each in failed
        ]
        return "; ".join(reasons) or "AWS gives no reason; see the stack's events"
