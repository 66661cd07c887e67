"""Uploads one file with boto3: `upload_file`, classic transfers."""

import json
import sys

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config

upload = json.loads(sys.argv[1])
checks = {} if upload["checks"] else {"payload_signing_enabled": False}
config = Config(request_checksum_calculation="when_supported" if upload["checks"] else "when_required",
                max_pool_connections=max(10, upload["parallel"]), s3={"addressing_style": "path", **checks})
client = boto3.client("s3", endpoint_url=upload["endpoint"], config=config)
if not upload["startup"]:
    transfer = TransferConfig(multipart_threshold=upload["part_size"] + 1, multipart_chunksize=upload["part_size"],
                              max_concurrency=upload["parallel"], preferred_transfer_client="classic")
    client.upload_file(upload["file"], "demo", upload["key"], Config=transfer)
