"""The hook of the way out: a typed face for the runner."""

from __future__ import annotations

from mailserv.deliver.tls_policy import HopPolicy
from mailserv.hooks.runner import Runner
from mailserv.mail.tls_mode import strictest
from mailserv.mail.value import replace


class DeliverHooks:
    """Called on queue workers. Without a runner: nobody."""

    def __init__(self, runner: Runner | None = None) -> None:
        self._runner = runner
        self._demands = runner is not None and runner.has("tls_policy")

    def policy(self, next_hop: str, host: str, policy: HopPolicy) -> HopPolicy:
        """`policy`, or what a plugin demands of this host where that is stricter. Raises PluginError."""
        if not self._runner or not self._demands:
            return policy
        answer = self._runner.provide("tls_policy", next_hop=next_hop, host=host)
        return policy if answer is None else replace(policy, tls=strictest(policy.tls, answer))
