"""Laws of the description: it is complete, its references resolve, and its ranges are those of the engine."""

from __future__ import annotations

import json
import re
from typing import Any

from jsonschema import Draft202012Validator

from localspec.params import SAMPLING_RANGES
from localspec.serve.dialects.fields import Shared
from localspec.serve.endpoints import ENDPOINTS, openapi
from localspec.serve.metrics import Metrics


def test_every_endpoint_is_described() -> None:
    """With its method, and schemas that are valid."""
    found = openapi()
    for endpoint in ENDPOINTS:
        path = re.sub(r":\w+}", "}", endpoint.path)
        assert found["paths"][path][endpoint.method.lower()]["summary"]
    for schema in found["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_references_resolve() -> None:
    """To components of the same document."""
    found = openapi()
    for name in re.findall(r'"#/components/schemas/(\w+)"', json.dumps(found)):
        assert name in found["components"]["schemas"]


def test_every_option_of_sampling_is_a_field() -> None:
    """Of every interface, with the engine's range."""
    fields: Any = openapi()["components"]["schemas"]["ChatRequest"]["properties"]
    assert set(SAMPLING_RANGES) < set(Shared.__struct_fields__)
    for name, (low, _, _) in SAMPLING_RANGES.items():
        assert [kind["minimum"] for kind in fields[name]["anyOf"] if "minimum" in kind] == [low]


def test_metrics_are_in_prometheus_format() -> None:
    """Each line is a comment, or a name with a number."""
    line = re.compile(r'(# (HELP|TYPE) localspec:\w+ .+|localspec:\w+(\{\w+="\w+"\})? \d+(\.\d+)?)')
    text = Metrics().text(1, 2)
    assert all(line.fullmatch(one) for one in text.splitlines())
    assert "localspec:requests_deferred 2\n" in text
