"""A fake AWS for one machine: moto's server, with what moto lacks for this project, over real HTTP.

    with FakeAWS(folder) as aws:
        aws.client("fsx").create_file_system(...)
        aws.control.configure({"fsx.createSeconds": 0})

Added to moto: FSx for Lustre with its life cycle, data repository associations and tasks that really copy between S3 and
`<folder>/fsx/<fileSystemId>/`; Ground Truth labelling jobs with noisy workers; faults on request; a log of all calls.
Everything else of moto (S3, IAM, SQS, ...) is there as it is. It is a separate process: any number of programs, in pods too,
reach it by its endpoint. Its state is in memory and gone when it ends; only the files of the file systems stay.

Each extension names the page of AWS's documentation that it follows, refuses what AWS refuses, and every answer of it is
checked against botocore's model before it is sent. Permissions are not checked: any credentials are good.
"""

from penstock_local.aws.client import Control, ControlError
from penstock_local.aws.process import FakeAWS

__all__ = ["Control", "ControlError", "FakeAWS"]
