"""Uploads one file with alibabacloud-oss-v2: its Uploader, with its checkpoint only if asked for, as it has it."""

import json
import sys

import alibabacloud_oss_v2 as oss

upload = json.loads(sys.argv[1])
config = oss.config.load_default()
config.credentials_provider = oss.credentials.StaticCredentialsProvider("compare", "compare-secret")
config.region = "cn-hangzhou"
config.endpoint = upload["endpoint"]
config.use_path_style = True
config.disable_upload_crc64_check = not upload["checks"]
client = oss.Client(config)
if not upload["startup"]:
    checkpoint = {"enable_checkpoint": True, "checkpoint_dir": upload["checkpoint"]} if upload["record"] else {}
    uploader = client.uploader(part_size=upload["part_size"], parallel_num=upload["parallel"], **checkpoint)
    uploader.upload_file(oss.PutObjectRequest(bucket="demo", key=upload["key"]), upload["file"])
