"""Holds recorded requests against botocore: each parameter against the service model of EC2, and each
signature against botocore's own. One JSON object a line on standard input: method, url, headers, body,
key_id, secret. Prints a line for each fault and ends with 1 if there is any.
"""

import json
import re
import sys
from urllib.parse import parse_qsl

import botocore.session
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

MODEL = botocore.session.get_session().get_service_model("ec2")


def wire_name(member, shape):
    """The name a parameter has in a form: EC2's own, or the first letter raised."""
    serialization = shape.serialization
    if "queryName" in serialization:
        return serialization["queryName"]
    name = serialization.get("name", member)
    return name[0].upper() + name[1:]


def check(shape, path, value, faults):
    """Holds one value, a tree of parts or a text, against its shape."""
    where = ".".join(path)
    if shape.type_name == "structure":
        if not isinstance(value, dict):
            faults.append(f"{where} is no structure")
            return
        known = {wire_name(name, member): (name, member) for name, member in shape.members.items()}
        for part, inner in value.items():
            if part not in known:
                faults.append(f"{where} has no part {part}")
            else:
                check(known[part][1], path + [part], inner, faults)
        given = {known[part][0] for part in value if part in known}
        for name in shape.required_members:
            if name not in given:
                faults.append(f"{where} lacks {name}")
    elif shape.type_name == "list":
        if not isinstance(value, dict):
            faults.append(f"{where} is no list")
            return
        numbers = sorted(int(number) for number in value if number.isdigit())
        if numbers != list(range(1, len(value) + 1)):
            faults.append(f"{where} is not numbered from 1: {sorted(value)}")
        for number, inner in value.items():
            check(shape.member, path + [number], inner, faults)
    elif isinstance(value, dict):
        faults.append(f"{where} has parts: {sorted(value)}")
    elif shape.type_name in ("integer", "long"):
        if not re.fullmatch(r"-?[0-9]+", value):
            faults.append(f"{where} is no whole number: {value}")
    elif shape.type_name == "boolean":
        if value not in ("true", "false"):
            faults.append(f"{where} is neither true nor false: {value}")
    elif shape.type_name == "string" and getattr(shape, "enum", None):
        if value not in shape.enum:
            faults.append(f"{where} is none of the values: {value}")


def tree(pairs, faults):
    """Names with dots as a tree."""
    root = {}
    for name, value in pairs:
        node = root
        *parents, last = name.split(".")
        for part in parents:
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                faults.append(f"{name} is a part of a text")
                return root
        if last in node:
            faults.append(f"{name} stands twice")
        node[last] = value
    return root


def parameters(request, faults):
    """The action of a request, its parameters held against the model."""
    pairs = parse_qsl(request["body"], keep_blank_values=True, strict_parsing=True)
    form = tree(pairs, faults)
    action = form.pop("Action", None)
    version = form.pop("Version", None)
    if version != MODEL.api_version:
        faults.append(f"the version is {version}, and not {MODEL.api_version}")
    if action not in MODEL.operation_names:
        faults.append(f"there is no action {action}")
        return action
    shape = MODEL.operation_model(action).input_shape
    if shape is not None:
        check(shape, [action], form, faults)
    return action


def signature(request, faults):
    """The signature held against botocore's."""
    headers = {name.lower(): value for name, value in request["headers"]}
    given = headers.get("authorization", "")
    found = re.search(r"Credential=[^/]+/\d+/([^/]+)/([^/]+)/.*SignedHeaders=([^,]+), *Signature=(\w+)", given)
    if not found:
        faults.append("it is not signed")
        return
    region, service, names, told = found.groups()
    # botocore would sign at its own time: it is given the request's.
    signer = SigV4Auth(Credentials(request["key_id"], request["secret"]), service, region)
    signed = {name: headers[name] for name in names.split(";")}
    again = AWSRequest(request["method"], request["url"], headers=signed, data=request["body"].encode())
    again.context["timestamp"] = headers["x-amz-date"]
    wanted = signer.signature(signer.string_to_sign(again, signer.canonical_request(again)), again)
    if wanted != told:
        faults.append(f"its signature is {told}, and botocore's {wanted}")


def main():
    count, failed = 0, 0
    for line in sys.stdin:
        request = json.loads(line)
        faults = []
        action = parameters(request, faults)
        signature(request, faults)
        count += 1
        for fault in faults:
            failed += 1
            print(f"{action}: {fault}")
    print(f"{count} requests, {failed} faults", file=sys.stderr)
    sys.exit(1 if failed or not count else 0)


main()
