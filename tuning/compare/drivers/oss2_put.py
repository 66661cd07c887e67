"""Uploads one file with oss2: `resumable_upload`, which always keeps a record of what is done."""

import json
import sys

import oss2

upload = json.loads(sys.argv[1])
oss2.defaults.connection_pool_size = max(10, upload["parallel"])
auth = oss2.AuthV4("compare", "compare-secret")
bucket = oss2.Bucket(auth, upload["endpoint"], "demo", enable_crc=upload["checks"], region="cn-hangzhou",
                     is_path_style=True)
if not upload["startup"]:
    store = oss2.ResumableStore(root=upload["checkpoint"])
    oss2.resumable_upload(bucket, upload["key"], upload["file"], store=store,
                          multipart_threshold=upload["part_size"] + 1, part_size=upload["part_size"],
                          num_threads=upload["parallel"])
