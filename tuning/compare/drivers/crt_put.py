"""Uploads one file with the AWS Common Runtime: an S3 meta request that reads the path itself.

    crt_put.py [crc64nvme] UPLOAD
"""

import json
import os
import sys

from awscrt import s3
from awscrt.auth import AwsCredentialsProvider
from awscrt.http import HttpHeaders, HttpRequest
from awscrt.io import ClientTlsContext, TlsContextOptions

upload = json.loads(sys.argv[-1])
scheme, host = upload["endpoint"].split("://")
signing = s3.create_default_s3_signing_config(
    region="us-east-1", credential_provider=AwsCredentialsProvider.new_static("compare", "compare-secret"))
tls = {"tls_mode": s3.S3RequestTlsMode.DISABLED}
if scheme == "https":
    options = TlsContextOptions()
    options.override_default_trust_store_from_path(None, upload["ca"])
    connection = ClientTlsContext(options).new_connection_options()
    connection.set_server_name(host.split(":")[0])
    tls = {"tls_mode": s3.S3RequestTlsMode.ENABLED, "tls_connection_options": connection}
client = s3.S3Client(region="us-east-1", signing_config=signing, part_size=upload["part_size"],
                     multipart_upload_threshold=upload["part_size"] + 1,
                     max_active_connections_override=upload["parallel"], **tls)
if not upload["startup"]:
    checksum = {}
    if "crc64nvme" in sys.argv:
        checksum = {"checksum_config": s3.S3ChecksumConfig(algorithm=s3.S3ChecksumAlgorithm.CRC64NVME,
                                                           location=s3.S3ChecksumLocation.TRAILER)}
    headers = HttpHeaders([("Host", host), ("Content-Length", str(os.path.getsize(upload["file"])))])
    request = HttpRequest("PUT", f"/demo/{upload['key']}", headers)
    client.make_request(type=s3.S3RequestType.PUT_OBJECT, request=request, send_filepath=upload["file"],
                        **checksum).finished_future.result()
