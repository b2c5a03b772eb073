"""A directory password opens a store: Ceph's object gateway behind nginx and the authorizer, unmodified clients."""

import io
import json
import subprocess
import uuid
from dataclasses import dataclass
from pathlib import Path

import pytest
import urllib3
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from minio import Minio
from support.broker_process import ACCOUNT, PASSWORDS, document, environment, error_code, post, role_arn
from support.installation import VERSIONS
from support.servers import HANG, eventually, program
from support.store_fixtures import ROLE, ProtectedStore, allow, denied, keys

ODD_KEYS = (
    "a b/ü+%2F~'().txt",
    "a//b",
    "//leading",
    "x/../y",
    "./z",
    "trailing/",
    "q?r&s=t",
    "semi;colon=,",
    "%41%2e",
    '*!$@:[]#|<>^`{}"\\',
)
MEGABYTE = 1024 * 1024


@pytest.fixture(scope="module")
def bucket(protected_store: ProtectedStore) -> str:
    """A bucket of this module; each test has keys of its own."""
    return protected_store.bucket(f"work-{uuid.uuid4().hex[:8]}")


@pytest.fixture
def s3(protected_store: ProtectedStore):
    return protected_store.admin()


@pytest.fixture
def credentials(protected_store: ProtectedStore) -> Credentials:
    return protected_store.broker.credentials("alice", ROLE)


# --- boto3 ------------------------------------------------------------------------------------------------------------


def test_what_is_put_is_there(s3, bucket):
    s3.put_object(Bucket=bucket, Key="plain/1", Body=b"hello", Metadata={"my-key": "a  b"}, ContentType="text/x")
    got = s3.get_object(Bucket=bucket, Key="plain/1")
    assert (got["Body"].read(), got["Metadata"]["my-key"], got["ContentType"]) == (b"hello", "a  b", "text/x")
    assert s3.head_object(Bucket=bucket, Key="plain/1")["ContentLength"] == 5
    assert keys(s3, bucket, "plain/") == {"plain/1"}
    s3.delete_object(Bucket=bucket, Key="plain/1")
    assert error_code(s3.get_object, Bucket=bucket, Key="plain/1") == "NoSuchKey"
    assert bucket in [one["Name"] for one in s3.list_buckets()["Buckets"]]


@pytest.mark.parametrize("key", ODD_KEYS)
def test_odd_keys_are_keys_like_others(s3, bucket, key):
    key = f"odd/{key}"
    s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == key.encode()
    assert keys(s3, bucket, key) == {key}
    s3.delete_object(Bucket=bucket, Key=key)
    assert keys(s3, bucket, key) == set()


def test_large_objects_go_in_parts_and_come_in_ranges(s3, bucket):
    body = bytes(range(256)) * (20 * MEGABYTE // 256)
    s3.upload_fileobj(io.BytesIO(body), bucket, "large")  # by boto3's own choice in parts of 8 MB
    assert s3.head_object(Bucket=bucket, Key="large")["ETag"].endswith('-3"')
    got = io.BytesIO()
    s3.download_fileobj(bucket, "large", got)
    assert got.getvalue() == body
    part = s3.get_object(Bucket=bucket, Key="large", Range="bytes=9000000-9000009")
    assert (part["ResponseMetadata"]["HTTPStatusCode"], part["Body"].read()) == (206, body[9_000_000:9_000_010])


def test_an_upload_in_parts_can_be_listed_and_given_up(s3, bucket):
    upload = s3.create_multipart_upload(Bucket=bucket, Key="parts/a b")["UploadId"]
    named = {"Bucket": bucket, "Key": "parts/a b", "UploadId": upload}
    s3.upload_part(**named, PartNumber=1, Body=b"x")
    assert [one["Size"] for one in s3.list_parts(**named)["Parts"]] == [1]
    assert upload in [one["UploadId"] for one in s3.list_multipart_uploads(Bucket=bucket)["Uploads"]]
    s3.abort_multipart_upload(**named)
    assert s3.list_multipart_uploads(Bucket=bucket).get("Uploads", []) == []


def test_objects_are_copied_and_tagged(s3, bucket):
    s3.put_object(Bucket=bucket, Key="from/ü 1", Body=b"copied", Tagging="team=a%20b")
    s3.copy_object(Bucket=bucket, Key="to", CopySource={"Bucket": bucket, "Key": "from/ü 1"})
    assert s3.get_object(Bucket=bucket, Key="to")["Body"].read() == b"copied"
    assert s3.get_object_tagging(Bucket=bucket, Key="from/ü 1")["TagSet"] == [{"Key": "team", "Value": "a b"}]
    s3.put_object_tagging(Bucket=bucket, Key="to", Tagging={"TagSet": [{"Key": "k", "Value": "v"}]})
    assert s3.get_object_tagging(Bucket=bucket, Key="to")["TagSet"] == [{"Key": "k", "Value": "v"}]


def test_versions_are_kept_and_read(protected_store, s3):
    bucket = protected_store.bucket(f"versions-{uuid.uuid4().hex[:8]}")
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    first = s3.put_object(Bucket=bucket, Key="a+b", Body=b"1")["VersionId"]
    s3.put_object(Bucket=bucket, Key="a+b", Body=b"2")
    assert s3.get_object(Bucket=bucket, Key="a+b")["Body"].read() == b"2"
    assert s3.get_object(Bucket=bucket, Key="a+b", VersionId=first)["Body"].read() == b"1"
    versions = s3.list_object_versions(Bucket=bucket)["Versions"]
    assert len(versions) == 2
    named = [{"Key": one["Key"], "VersionId": one["VersionId"]} for one in versions]
    assert len(s3.delete_objects(Bucket=bucket, Delete={"Objects": named})["Deleted"]) == 2
    s3.delete_bucket(Bucket=bucket)


def test_many_are_deleted_at_once(s3, bucket):
    for number in range(3):
        s3.put_object(Bucket=bucket, Key=f"many/{number} ü", Body=b"")
    named = [{"Key": f"many/{number} ü"} for number in range(3)]
    assert len(s3.delete_objects(Bucket=bucket, Delete={"Objects": named})["Deleted"]) == 3
    assert keys(s3, bucket, "many/") == set()


def test_presigned_urls_read_and_write_without_credentials(protected_store, s3, bucket):
    named = {"Bucket": bucket, "Key": "presigned/a b+ü~'()"}
    put = s3.generate_presigned_url("put_object", Params=named)
    assert fetch(protected_store, put, b"presigned")[0] == 200
    got = s3.generate_presigned_url("get_object", Params={**named, "ResponseContentType": "text/x a"})
    assert fetch(protected_store, got) == (200, b"presigned")
    status, body = fetch(protected_store, got.replace("presigned/", "other/"))
    assert status == 403
    assert b"<Code>SignatureDoesNotMatch</Code>" in body


def fetch(store: ProtectedStore, url: str, body: bytes | None = None) -> tuple[int, bytes]:
    pool = urllib3.PoolManager(ca_certs=str(store.front.ca_file), retries=False, timeout=HANG)
    with pool:
        answer = pool.request("GET" if body is None else "PUT", url, body=body)
        return answer.status, answer.data


def test_buckets_may_be_named_by_the_host(protected_store, s3, bucket):
    s3.put_object(Bucket=bucket, Key="by/host", Body=b"by host")
    virtual = protected_store.admin(s3={"addressing_style": "virtual"})
    url = virtual.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "by/host"})
    front = protected_store.front
    host, _, target = url.removeprefix("https://").partition("/")
    assert host == f"{bucket}.{front.host}"
    answer = front.ask("GET", f"/{target}", ("Host", host))
    assert (answer.status, answer.body) == (200, b"by host")


def test_what_the_store_cannot_read_is_refused_with_the_setting_that_helps(protected_store, bucket):
    # The default of boto3 over https: a checksum in the trailer.
    s3 = protected_store.admin(request_checksum_calculation="when_supported")
    with pytest.raises(ClientError, match="request_checksum_calculation = when_required"):
        s3.put_object(Bucket=bucket, Key="trailer", Body=b"x")
    v2 = protected_store.admin(signature_version="s3")
    url = v2.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "plain/1"})
    status, body = fetch(protected_store, url)
    assert (status, b"s3v4" in body) == (400, True)


# --- what may be done -------------------------------------------------------------------------------------------------


def test_a_role_is_held_to_its_prefix(protected_store, s3, bucket):
    store = protected_store
    store.role("Prefix", allow(["s3:GetObject", "s3:PutObject"], f"{bucket}/mine/*"))
    alice = store.s3(store.broker.credentials("alice", "Prefix"))
    alice.put_object(Bucket=bucket, Key="mine/1", Body=b"mine")
    message = denied(alice.put_object, Bucket=bucket, Key="others/1", Body=b"x")
    assert message == (
        f"User: arn:aws:sts::{ACCOUNT}:assumed-role/Prefix/alice is not authorized to perform: s3:PutObject on"
        f' resource: "arn:aws:s3:::{bucket}/others/1" because no identity-based policy allows the s3:PutObject action'
    )
    # A path is decided about as it is stored, not as a file system would read it.
    denied(alice.get_object, Bucket=bucket, Key="others/../mine/1")
    denied(alice.get_object, Bucket=bucket, Key="mine%2F1")
    denied(alice.copy_object, Bucket=bucket, Key="mine/2", CopySource={"Bucket": bucket, "Key": "others/1"})
    denied(alice.delete_object, Bucket=bucket, Key="mine/1")
    denied(alice.list_objects_v2, Bucket=bucket)
    assert keys(s3, bucket, "others/") == set()


def test_everybody_has_a_prefix_of_their_own(protected_store, bucket):
    store = protected_store
    listing = {"StringLike": {"s3:prefix": ["home/${ldap:username}/*"]}}
    store.role(
        "Home",
        allow(["s3:GetObject", "s3:PutObject", "s3:DeleteObject"], f"{bucket}/home/${{ldap:username}}/*"),
        {**allow(["s3:ListBucket"], bucket), "Condition": listing},
    )
    for person, other in (("alice", "bob"), ("bob", "alice")):
        theirs = store.s3(store.broker.credentials(person, "Home"))
        theirs.put_object(Bucket=bucket, Key=f"home/{person}/notes", Body=person.encode())
        assert keys(theirs, bucket, f"home/{person}/") == {f"home/{person}/notes"}
        denied(theirs.get_object, Bucket=bucket, Key=f"home/{other}/notes")
        denied(theirs.list_objects_v2, Bucket=bucket, Prefix=f"home/{other}/")
        denied(theirs.list_objects_v2, Bucket=bucket)


def test_a_session_tag_decides(protected_store, bucket):
    store = protected_store
    store.role("Department", allow(["s3:PutObject"], f"{bucket}/${{aws:PrincipalTag/department}}/*"))
    tagged = {"Tags.member.1.Key": "department", "Tags.member.1.Value": "finance"}
    finance = store.s3(store.broker.credentials("carol", "Department", **tagged))
    finance.put_object(Bucket=bucket, Key="finance/1", Body=b"")
    denied(finance.put_object, Bucket=bucket, Key="research/1", Body=b"")
    untagged = store.s3(store.broker.credentials("carol", "Department"))
    denied(untagged.put_object, Bucket=bucket, Key="finance/1", Body=b"")


def test_a_session_policy_limits(protected_store, s3, bucket):
    s3.put_object(Bucket=bucket, Key="session/1", Body=b"1")
    policy = document(allow(["s3:GetObject"], f"{bucket}/session/*"))
    limited = protected_store.s3(protected_store.broker.credentials("alice", ROLE, Policy=policy))
    assert limited.get_object(Bucket=bucket, Key="session/1")["Body"].read() == b"1"
    assert "no session policy allows" in denied(limited.put_object, Bucket=bucket, Key="session/1", Body=b"2")


def test_a_boundary_limits(protected_store, s3, bucket):
    s3.put_object(Bucket=bucket, Key="boundary/1", Body=b"1")
    iam = protected_store.broker.client("iam")
    reads = document(allow(["s3:GetObject"], f"{bucket}/*"))
    boundary = iam.create_policy(PolicyName="reads", PolicyDocument=reads)["Policy"]["Arn"]
    protected_store.role("Bounded", allow(["s3:*"], "*"), PermissionsBoundary=boundary)
    bounded = protected_store.s3(protected_store.broker.credentials("alice", "Bounded"))
    assert bounded.get_object(Bucket=bucket, Key="boundary/1")["Body"].read() == b"1"
    assert "boundary" in denied(bounded.put_object, Bucket=bucket, Key="boundary/1", Body=b"2")


def test_a_bucket_policy_lets_another_account_in(protected_store, s3, bucket):
    broker = protected_store.broker
    other = broker.fedgate("account", "create", "--id", "210987654321")["root"]
    iam = broker.client("iam", Credentials(other["access_key_id"], other["secret_access_key"]))
    iam.create_user(UserName="guest")
    iam.put_user_policy(UserName="guest", PolicyName="s3", PolicyDocument=document(allow(["s3:*"], "*")))
    key = iam.create_access_key(UserName="guest")["AccessKey"]
    guest = protected_store.s3(Credentials(key["AccessKeyId"], key["SecretAccessKey"]))
    s3.put_object(Bucket=bucket, Key="shared/1", Body=b"shared")
    assert "no resource-based policy allows" in denied(guest.get_object, Bucket=bucket, Key="shared/1")
    principal = {"AWS": "arn:aws:iam::210987654321:user/guest"}
    policy = broker.folder / "policy.json"
    policy.write_text(document({**allow(["s3:GetObject"], f"{bucket}/shared/*"), "Principal": principal}))
    broker.fedgate("resource", "policy", "put", "store", str(policy), "--bucket", bucket)
    assert guest.get_object(Bucket=bucket, Key="shared/1")["Body"].read() == b"shared"
    denied(guest.put_object, Bucket=bucket, Key="shared/1", Body=b"")
    broker.fedgate("resource", "policy", "delete", "store", "--bucket", bucket)
    denied(guest.get_object, Bucket=bucket, Key="shared/1")


def test_who_is_not_known_gets_the_answer_of_s3(protected_store, bucket):
    unknown = protected_store.s3(Credentials("AKIAIOSFODNN7EXAMPLE", "x" * 40))
    assert error_code(unknown.get_object, Bucket=bucket, Key="x") == "InvalidAccessKeyId"
    known = protected_store.broker.credentials("alice", ROLE)
    wrong = protected_store.s3(Credentials(known.access_key, "x" * 40, known.token))
    assert error_code(wrong.get_object, Bucket=bucket, Key="x") == "SignatureDoesNotMatch"
    store_key = protected_store.s3(protected_store.gateway.key)
    assert error_code(store_key.get_object, Bucket=bucket, Key="x") == "InvalidAccessKeyId"
    assert protected_store.front.ask("GET", f"/{bucket}/x").status == 403


def test_a_revoked_session_reads_no_more(protected_store, s3, bucket):
    s3.put_object(Bucket=bucket, Key="revoked", Body=b"x" * MEGABYTE)
    broker = protected_store.broker
    protected_store.role("Revoked", allow(["s3:GetObject"], f"{bucket}/*"))
    credentials = broker.credentials("bob", "Revoked")
    bob = protected_store.s3(credentials)
    body = bob.get_object(Bucket=bucket, Key="revoked")["Body"]
    body.read(10)
    broker.fedgate("sessions", "revoke", broker.session(credentials)["id"])
    eventually(lambda: error_code(bob.get_object, Bucket=bucket, Key="revoked") != "")
    # What the store has begun to answer goes on.
    assert len(body.read()) == MEGABYTE - 10


# --- other clients ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shell:
    """A shell of somebody who has signed in, in a folder of its own."""

    folder: Path
    store: ProtectedStore
    credentials: Credentials

    def run(self, *command: str | Path, **more: str) -> str:
        environ = {
            "AWS_ACCESS_KEY_ID": self.credentials.access_key,
            "AWS_SECRET_ACCESS_KEY": self.credentials.secret_key,
            "AWS_SESSION_TOKEN": self.credentials.token,
            "AWS_ENDPOINT_URL_S3": self.store.front.url,
            "AWS_CA_BUNDLE": str(self.store.front.ca_file),
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
            "AWS_PAGER": "",
        }
        environ = environment(self.folder, **{**environ, **more})
        done = subprocess.run(
            command, env=environ, cwd=self.folder, capture_output=True, text=True, timeout=HANG, check=False
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture
def shell(tmp_path: Path, protected_store: ProtectedStore, credentials: Credentials) -> Shell:
    return Shell(tmp_path, protected_store, credentials)


def test_the_aws_cli_copies_syncs_lists_and_removes(shell, aws_cli_v2, bucket):
    def aws(*arguments: str) -> str:
        return shell.run(aws_cli_v2, *arguments)

    tree = shell.folder / "tree" / "ü b"
    tree.mkdir(parents=True)
    (tree / "small+1.txt").write_text("small")
    (shell.folder / "tree" / "large").write_bytes(b"x" * (9 * MEGABYTE))
    aws("s3", "cp", "tree/ü b/small+1.txt", f"s3://{bucket}/cli/one")
    aws("s3", "sync", "tree", f"s3://{bucket}/cli/tree")
    listed = aws("s3", "ls", "--recursive", f"s3://{bucket}/cli/")
    assert [line.split(maxsplit=3)[3] for line in listed.splitlines()] == [
        "cli/one",
        "cli/tree/large",
        "cli/tree/ü b/small+1.txt",
    ]
    aws("s3", "sync", f"s3://{bucket}/cli/tree", "back")
    assert (shell.folder / "back" / "large").read_bytes() == b"x" * (9 * MEGABYTE)
    url = aws("s3", "presign", f"s3://{bucket}/cli/one").strip()
    assert fetch(shell.store, url) == (200, b"small")
    aws("s3", "rm", "--recursive", f"s3://{bucket}/cli/")
    assert keys(shell.store.admin(), bucket, "cli/") == set()


def test_a_denial_is_shown_by_the_aws_cli(shell, aws_cli_v2, bucket):
    shell.store.role("Nothing", allow(["s3:GetObject"], "elsewhere/*"))
    nobody = Shell(shell.folder, shell.store, shell.store.broker.credentials("bob", "Nothing"))
    (shell.folder / "file").write_text("x")
    with pytest.raises(AssertionError, match=r"AccessDenied.*because no identity-based policy allows the s3:PutObject"):
        nobody.run(aws_cli_v2, "s3", "cp", "file", f"s3://{bucket}/denied")


def test_rclone_copies_and_reads(shell, bucket):
    # rclone has an option of its own for the authority.
    remote = {"AWS_CA_BUNDLE": "", "RCLONE_CA_CERT": str(shell.store.front.ca_file), "RCLONE_CONFIG": "/dev/null"}
    place = f":s3,provider=Ceph,env_auth,region=us-east-1,endpoint='{shell.store.front.url}':{bucket}/rclone"
    rclone = program("rclone", "rclone")
    folder = shell.folder / "send"
    folder.mkdir()
    (folder / "a b+ü.txt").write_text("by rclone")
    (folder / "large").write_bytes(b"x" * (6 * MEGABYTE))
    shell.run(rclone, "copy", "--s3-upload-cutoff", "5M", "send", place, **remote)
    assert shell.run(rclone, "cat", f"{place}/a b+ü.txt", **remote) == "by rclone"
    assert shell.run(rclone, "lsf", place, **remote).splitlines() == ["a b+ü.txt", "large"]
    shell.run(rclone, "purge", place, **remote)
    assert keys(shell.store.admin(), bucket, "rclone/") == set()


def test_s3cmd_copies_and_reads(shell, bucket):
    (shell.folder / "send").write_text("by s3cmd")
    host = shell.store.front.host
    s3cmd = [program("s3cmd", "s3cmd"), "--config", "/dev/null", "--host", host, "--host-bucket", host]
    s3cmd += ["--ca-certs", str(shell.store.front.ca_file), "--access_token", shell.credentials.token]
    shell.run(*s3cmd, "put", "send", f"s3://{bucket}/s3cmd/a b+ü")
    shell.run(*s3cmd, "get", f"s3://{bucket}/s3cmd/a b+ü", "got")
    assert (shell.folder / "got").read_text() == "by s3cmd"
    shell.run(*s3cmd, "del", f"s3://{bucket}/s3cmd/a b+ü")
    assert keys(shell.store.admin(), bucket, "s3cmd/") == set()


def test_the_minio_package_copies_and_reads(protected_store, credentials, bucket):
    front = protected_store.front
    with urllib3.PoolManager(ca_certs=str(front.ca_file), retries=False) as pool:
        secrets = credentials.access_key, credentials.secret_key, credentials.token
        client = Minio(front.host, *secrets, secure=True, region="us-east-1", http_client=pool)
        client.put_object(bucket, "minio/a b+ü", io.BytesIO(b"by minio"), 8)
        with client.get_object(bucket, "minio/a b+ü") as got:
            assert got.read() == b"by minio"
        assert [one.object_name for one in client.list_objects(bucket, "minio/")] == ["minio/a b+ü"]
        assert fetch(protected_store, client.presigned_get_object(bucket, "minio/a b+ü")) == (200, b"by minio")
        client.remove_object(bucket, "minio/a b+ü")


JAVASCRIPT = """
const { S3Client, PutObjectCommand, GetObjectCommand, ListObjectsV2Command, DeleteObjectsCommand } =
  require("@aws-sdk/client-s3");
const { Upload } = require("@aws-sdk/lib-storage");
const { getSignedUrl } = require("@aws-sdk/s3-request-presigner");
const { Readable } = require("stream");
(async () => {
  const [Bucket, endpoint] = process.argv.slice(2);
  const s3 = new S3Client({ endpoint, forcePathStyle: true, requestChecksumCalculation: "WHEN_REQUIRED" });
  const Key = "js/a b+ü~'()";
  await s3.send(new PutObjectCommand({ Bucket, Key, Body: "by JavaScript" }));
  await s3.send(new PutObjectCommand({ Bucket, Key: "js/stream", Body: Readable.from(["abc"]), ContentLength: 3 }));
  await new Upload({ client: s3, params: { Bucket, Key: "js/large", Body: Buffer.alloc(6 * 1024 * 1024) } }).done();
  const got = await s3.send(new GetObjectCommand({ Bucket, Key }));
  const listed = await s3.send(new ListObjectsV2Command({ Bucket, Prefix: "js/" }));
  const presigned = await fetch(await getSignedUrl(s3, new GetObjectCommand({ Bucket, Key })));
  console.log(JSON.stringify({
    got: await got.Body.transformToString(),
    presigned: await presigned.text(),
    keys: listed.Contents.map((one) => one.Key),
  }));
  await s3.send(new DeleteObjectsCommand({ Bucket, Delete: { Objects: listed.Contents.map(({ Key }) => ({ Key })) } }));
})().catch((error) => { console.error(error); process.exit(1); });
"""


def test_the_sdk_for_javascript_copies_and_reads(shell, bucket):
    node = Path(__file__).parents[2] / ".testbed" / "node" / "node_modules"
    assert (node / "@aws-sdk" / "client-s3").exists(), "the AWS SDK for JavaScript is missing: make test-servers"
    (shell.folder / "s3.cjs").write_text(JAVASCRIPT)
    trusted = {"NODE_EXTRA_CA_CERTS": str(shell.store.front.ca_file), "NODE_PATH": str(node)}
    printed = shell.run(program("node", "nodejs"), "s3.cjs", bucket, shell.store.front.url, **trusted)
    told = json.loads(printed.splitlines()[-1])
    assert (told["got"], told["presigned"]) == ("by JavaScript", "by JavaScript")
    assert told["keys"] == ["js/a b+ü~'()", "js/large", "js/stream"]
    assert keys(shell.store.admin(), bucket, "js/") == set()


def test_curl_signs_by_itself(shell, bucket):
    curl = [program("curl", "curl"), "--silent", "--fail-with-body", "--cacert", str(shell.store.front.ca_file)]
    curl += ["--aws-sigv4", "aws:amz:us-east-1:s3", "--header", "x-amz-content-sha256: UNSIGNED-PAYLOAD"]
    curl += ["--user", f"{shell.credentials.access_key}:{shell.credentials.secret_key}"]
    curl += ["--header", f"x-amz-security-token: {shell.credentials.token}"]
    url = f"{shell.store.front.url}/{bucket}/curl/1"
    (shell.folder / "send").write_text("by curl")
    shell.run(*curl, "--upload-file", "send", url)
    assert shell.run(*curl, url) == "by curl"
    shell.run(*curl, "--request", "DELETE", url)


def test_a_shell_is_signed_in_with_a_password(protected_store, bucket):
    """The whole way by hand: one POST with the password, then S3."""
    form = {"Action": "AssumeRoleWithLDAPIdentity", "Version": VERSIONS["sts"], "RoleArn": role_arn(ROLE)}
    form |= {"LDAPUsername": "bob", "LDAPPassword": PASSWORDS["bob"]}
    signed_in = post(protected_store.broker.endpoint, form).credentials
    protected_store.s3(signed_in).put_object(Bucket=bucket, Key="by/hand", Body=b"")
