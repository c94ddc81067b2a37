"""The commands that the documentation shows for array jobs, with engines that run jobs at once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import cloudimg
from tests.support import seed
from tests.support.metering import Meter
from tests.test_docs import BIN, blocks

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ENGINE = '''
"""``sbatch`` and ``aws batch submit-job``: run the tasks of a job one after the other."""

import argparse, json, os, re, subprocess, sys
from botocore.session import Session
from botocore.validate import ParamValidator

parser = argparse.ArgumentParser()
for name in ("array", "dependency", "wrap", "job-queue", "job-definition", "query", "output",
             "job-name", "array-properties", "container-overrides", "depends-on"):
    parser.add_argument("--" + name)
parser.add_argument("--parsable", action="store_true")
given, words = parser.parse_known_args()
if given.wrap:
    command, index = ["bash", "-c", given.wrap], "SLURM_ARRAY_TASK_ID"
    first, last = map(int, (given.array or "0-0").split("-"))
    tasks, more, before = range(first, last + 1), {}, (given.dependency or "").split(":")[-1]
else:
    assert words == ["batch", "submit-job"], words
    request = {
        "jobName": given.job_name,
        "jobQueue": given.job_queue,
        "jobDefinition": given.job_definition,
        "containerOverrides": json.loads(given.container_overrides),
    }
    size, before = "1", (given.depends_on or "").removeprefix("jobId=")
    if given.array_properties:
        size = given.array_properties.removeprefix("size=")
        request["arrayProperties"] = {"size": int(size)}
    if before:
        request["dependsOn"] = [{"jobId": before}]
    shape = Session().get_service_model("batch").operation_model("SubmitJob").input_shape
    problems = ParamValidator().validate(request, shape)
    assert not problems.has_errors(), problems.generate_report()
    command, index = request["containerOverrides"]["command"], "AWS_BATCH_JOB_ARRAY_INDEX"
    tasks, more = range(int(size)), {"AWS_BATCH_JOB_ARRAY_SIZE": size}
assert before in ("", "17"), before
for task in tasks:
    environment = {**os.environ, **more, index: str(task)}
    with open("output", "a") as output:
        subprocess.run(command, env=environment, stdout=output, check=True)
print("17")
'''


@pytest.mark.parametrize("engine", ["sbatch", "aws"])
def test_the_commands_of_the_page(engine: str, meter: Meter, tmp_path: Path) -> None:
    (tmp_path / engine).write_text(f"#!{sys.executable}\n{ENGINE}")
    (tmp_path / engine).chmod(0o755)
    (command,) = (
        b.code
        for b in blocks("docs/clusters.md")
        if f"$({engine} " in b.code or f" {engine} batch" in b.code
    )
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}{os.pathsep}{BIN}{os.pathsep}{os.environ['PATH']}",
        "AWS_ENDPOINT_URL": meter.endpoint,
        "AWS_ACCESS_KEY_ID": "docs",
        "AWS_SECRET_ACCESS_KEY": "docs",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    meter.create("lab")
    try:
        seed.write(lambda name, data: meter.put("lab", f"exp/{name}", data))
        # Of eight parts, to be quick, three.
        for number in ("0-7", "size=8", "ID/8"):
            command = command.replace(number, number.replace("7", "2").replace("8", "3"))
        done = subprocess.run(
            ["bash", "-euc", command],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        lines = (tmp_path / "output").read_text().splitlines()
        assert [line.split(",")[0] for line in lines[:3]] == [
            f"s3://lab/exp.ome.zarr: part {i}/3" for i in range(3)
        ]
        assert "all cells were finished before, this run wrote the metadata" in lines[3]
        url, options = "s3://lab/exp.ome.zarr", meter.storage_options
        assert cloudimg.verify(url, storage_options=options, against_source=True)
    finally:
        meter.drop("lab")
