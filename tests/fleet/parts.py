"""What is tried, part by part, in this order."""

import balanced
import logs
import renewals
import same
import upkeep

PARTS = {
    "same": same.same,
    "clones": same.clones,
    "authority": renewals.authority,
    "logs": logs.logs,
    "forwarded": logs.forwarded,
    "busybox": logs.busybox,
    "dns": balanced.dns,
    "trust": balanced.trust,
    "by-range": balanced.by_range,
    "by-client": balanced.by_client,
    "direct": balanced.direct,
    "ipvs": balanced.ipvs,
    "wrong": balanced.wrong,
    "proxy": balanced.proxy,
    "probes": upkeep.probes,
    "drained": upkeep.drained,
    "apart": upkeep.apart,
    "together": upkeep.together,
    "acme": renewals.acme,
}

# What takes about ten seconds.
QUICK = ["same", "authority", "logs", "by-range", "probes", "drained", "together"]
