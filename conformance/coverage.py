"""Which operator versions of the installed onnx package `ssdc ops` lacks.

    python conformance/coverage.py SSDC

Versions that opset 7 had replaced already are left out."""

import collections
import json
import re
import subprocess
import sys

import onnx

rows = collections.defaultdict(set)
for row in json.loads(subprocess.run([sys.argv[1], "ops", "--json"], capture_output=True, text=True, check=True).stdout):
    domain, name, since = re.match(r"(?:(.*)\.)?(\w+)-(\d+)$", row["op"]).groups()
    rows[domain or "", name].add(int(since))
schemas = onnx.defs.get_all_schemas_with_history()
versions = collections.defaultdict(set)
for s in schemas:
    versions[s.domain, s.name].add(s.since_version)
missing = []
for (domain, name), since in sorted(versions.items()):
    for v in sorted(since):
        replaced = domain == "" and any(v < w <= 7 for w in since)
        if not replaced and not any(w <= v for w in rows[domain, name]):
            missing.append(f"{domain or 'ai.onnx'}.{name}-{v}")
print(f"onnx {onnx.__version__}, opset {onnx.defs.onnx_opset_version()}: {len(schemas)} versions of {len(versions)} operators; missing: {', '.join(missing) or 'none'}")
