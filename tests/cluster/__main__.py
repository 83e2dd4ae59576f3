"""
The drill: everything that happens to a deployment, on a real cluster, under traffic: `make cluster`, with KUBECONFIG and IMAGE.

IMAGE is the image of the services; the nodes have it, or can pull it, and `apache/kafka:4.3.1`. The cluster has a default StorageClass and no namespace
`voipex`, which the drill creates and, unless KEEP=1, deletes.

The manifests are those of deploy/k8s/overlays/dev with the few patches of kustomization.yaml in this folder. The clients run in a pod of their own
(clients.py). Every 2xx is an obligation: at the end each acknowledged event must be in Kafka and in the timeline of its call. In steps that no person
forces, no request may fail. The commands of docs/deploying-kubernetes.md are run as printed; one that is not run fails the drill.
"""

import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = ROOT / "docs" / "deploying-kubernetes.md"
WORK: Final = ROOT / "build" / "cluster"
NAMESPACE: Final = "voipex"
SERVICES: Final = ("statefulset/voipex-bridge", "deployment/voipex-timelines", "deployment/voipex-agents")

WITHIN_S: Final = 300.0
"""Keeps the drill from hanging; far longer than a busy machine needs. The table says how long each step took."""
CALM_S: Final = 5.0
"""Traffic between two steps, so that a failure belongs to the right one."""
WITHOUT_TOPICS_S: Final = 40.0
OUTAGE_S: Final = 60.0
HANGS_AFTER_S: Final = 40.0
"""After the transaction timeout (15 s) and the services' patience (20 s) no transaction of theirs is open."""

Result = TypeVar("Result")


class DrillFailed(Exception):
    """The cluster did not do what the documentation promises."""


# ---------------------------------------------------------------------------------------------------- commands


def run(command: Sequence[str], given: str = "", within_s: float = WITHIN_S) -> str:
    """
    Run a command in the drill's folder; return its standard output.

    Raises:
        DrillFailed: it did not end with 0.
    """
    done = subprocess.run(
        command, cwd=WORK, input=given, capture_output=True, text=True, timeout=within_s, check=False
    )
    if done.returncode != 0:
        raise DrillFailed(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def kubectl(*arguments: str, given: str = "", within_s: float = WITHIN_S) -> str:
    return run(["kubectl", "-n", NAMESPACE, *arguments], given, within_s)


def objects(*arguments: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(kubectl("get", *arguments, "-o", "json"))["items"]
    return found


def eventually(
    predicate: Callable[[], Result | None], why: str, within_s: float = WITHIN_S, every_s: float = 1.0
) -> Result:
    """
    Call *predicate* until it returns something true; return that.

    Raises:
        DrillFailed: not within *within_s*; it says *why*.
    """
    deadline = time.monotonic() + within_s
    while not (found := predicate()):
        if time.monotonic() > deadline:
            raise DrillFailed(f"not within {within_s:g} s: {why}")
        time.sleep(every_s)
    return found


def commands(page: str) -> list[str]:
    """Return every kubectl command of a page: lines of its blocks of commands, and inline code that has more than a verb."""
    blocks = re.findall(r"^ *```sh\n(.*?)^ *```", page, re.DOTALL | re.MULTILINE)
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    inline = re.findall(r"`(kubectl -n [^`]+)`", re.sub(r"```.*?```", "", page, flags=re.DOTALL))
    return [
        *(line for line in lines if line.startswith("kubectl ")),
        *(re.sub(r"\s+", " ", each) for each in inline),
    ]


class Documented:
    """The commands of the page, and which of them have not been run yet."""

    def __init__(self) -> None:
        self.left = list(dict.fromkeys(commands(PAGE.read_text(encoding="utf-8"))))
        self.number = len(self.left)

    def take(self, line: str) -> str:
        """Return *line*, which must be on the page, and tick it off."""
        if line in self.left:
            self.left.remove(line)
        elif line not in commands(PAGE.read_text(encoding="utf-8")):
            raise DrillFailed(f"{PAGE.name} does not have this command: {line}")
        return line

    def check(self) -> None:
        """Raises DrillFailed if a command was not run."""
        if self.left:
            raise DrillFailed(f"commands of {PAGE.name} that were not run: {self.left}")

    def run(self, line: str, *, instead: tuple[str, str] = ("", "")) -> str:
        """Run a command as printed; *instead*: a word of it, and the one that it is here."""
        return run(["bash", "-euo", "pipefail", "-c", self.take(line).replace(*instead)])


# ---------------------------------------------------------------------------------------------------- the cluster


def pods(name: str) -> list[dict[str, Any]]:
    """The pods of a service that are not being deleted."""
    found = objects("pods", "-l", f"app.kubernetes.io/name={name}")
    return [each for each in found if "deletionTimestamp" not in each["metadata"]]


def name_of(pod: dict[str, Any]) -> str:
    name: str = pod["metadata"]["name"]
    return name


def is_ready(pod: dict[str, Any]) -> bool:
    return any(
        each["type"] == "Ready" and each["status"] == "True" for each in pod["status"].get("conditions", [])
    )


def restarts() -> dict[str, int]:
    """How often each container of the product was restarted in its pod; a container that crashes in a loop fails the drill."""
    found = {}
    for pod in objects("pods", "-l", "app.kubernetes.io/part-of=voipex"):
        for status in pod["status"].get("containerStatuses", []):
            found[name_of(pod)] = status["restartCount"]
            reason = status["state"].get("waiting", {}).get("reason", "")
            if (
                reason == "CrashLoopBackOff"
                or status.get("lastState", {}).get("terminated", {}).get("reason") == "OOMKilled"
            ):
                raise DrillFailed(
                    f"{name_of(pod)}: {reason or 'OOMKilled'}\n{kubectl('logs', name_of(pod), '--tail=20')}"
                )
    return found


def replicas_available(workload: str) -> int:
    return int(kubectl("get", workload, "-o", "jsonpath={.status.availableReplicas}") or 0)


def settled() -> None:
    """Wait until every service has all of its pods available."""
    for workload in SERVICES:
        eventually(partial(_is_settled, workload), f"{workload} is not settled")


def _is_settled(workload: str) -> bool:
    found = json.loads(kubectl("get", workload, "-o", "json"))
    status = found["status"]
    wanted: int = found["spec"]["replicas"]
    numbers = {status.get(name, 0) for name in ("availableReplicas", "updatedReplicas", "replicas")}
    return status.get("observedGeneration") == found["metadata"]["generation"] and numbers == {wanted}


def _was_restarted(pod: str, before: int) -> bool:
    return restarts().get(pod, 0) > before


def _state() -> str:
    return kubectl("get", "pods", "-o", "wide")


def kill(pod: str) -> None:
    """SIGKILL the service in a pod. Its container has no tool for that but Python."""
    program = (
        "import os, pathlib\n"
        "for each in pathlib.Path('/proc').glob('[0-9]*/cmdline'):\n"
        "    words = each.read_bytes().split(b'\\0')\n"
        "    if any(word.rpartition(b'/')[2] in (b'voipex-bridge', b'voipex-consumers') for word in words[:2]):\n"
        "        os.kill(int(each.parent.name), 9)\n"
    )
    subprocess.run(  # the container may end before the answer
        ["kubectl", "-n", NAMESPACE, "exec", pod, "--", "python", "-c", program],
        capture_output=True,
        check=False,
        timeout=WITHIN_S,
    )


def memory(name: str) -> str:
    """`peak of limit` of a service: the largest resident set of its processes so far, in MiB, and the limit of its container."""
    program = (
        "import pathlib, re\n"
        "texts = [each.read_text() for each in pathlib.Path('/proc').glob('[0-9]*/status')]\n"
        "peaks = [int(found[1]) for text in texts if (found := re.search(r'VmHWM:\\s+(\\d+)', text)) and 'python' not in text[:20]]\n"
        "print(max(peaks) // 1024)\n"
    )
    found = pods(name)
    peak = max(int(kubectl("exec", name_of(pod), "--", "python", "-c", program)) for pod in found)
    return f"{peak} MiB of {found[0]['spec']['containers'][0]['resources']['limits']['memory'].removesuffix('Mi')}"


# ---------------------------------------------------------------------------------------------------- steps


@dataclass(slots=True)
class Row:
    """A step: `seen` is what it found."""

    name: str
    took_s: float
    accepted: int
    failed: dict[str, int]
    slowest_s: float
    seen: str

    def __str__(self) -> str:
        failed = ", ".join(f"{number} {kind}" for kind, number in self.failed.items()) or "0"
        return f"| {self.name} | {self.took_s:.0f} s | {self.accepted:,} | {failed} | {self.slowest_s:.2f} s | {self.seen} |"


class Drill:
    """The steps, in the order in which `main` runs them."""

    def __init__(self, image: str) -> None:
        self.image = image
        self.page = Documented()
        self.failures: list[str] = []
        self.passwords = ["", ""]
        self.last = ""

    # -------------------------------------------------- frame

    @contextmanager
    def step(self, name: str, *, forced: bool = False) -> Iterator[list[str]]:
        """
        Run a step under traffic, and print its row. Yield a list for what is seen.

        forced: requests that are in flight when a process is killed may fail; otherwise none may.
        """
        self._put("step", name)
        before = {} if forced else restarts()
        started = time.monotonic()
        seen: list[str] = []
        try:
            yield seen
            settled()
        except DrillFailed as failure:
            self._fail(name, str(failure))
        took_s = time.monotonic() - started
        time.sleep(CALM_S)
        counts = self._counts()["steps"].get(name, {"accepted": 0, "failed": {}, "slowest_s": 0.0})
        print(Row(name, took_s, **counts, seen="; ".join(seen)), flush=True)
        if not forced:
            more = {pod: number for pod, number in restarts().items() if number > before.get(pod, 0)}
            if counts["failed"] or more:
                self._fail(name, f"requests failed: {counts['failed']}, restarted by themselves: {more}")

    def _fail(self, name: str, why: str) -> None:
        """Keep the failure for the end: the other steps are still of use."""
        self.failures.append(f"{name}: {why}")
        print(f"FAILED: {name}: {why}\n{_state()}", file=sys.stderr, flush=True)

    def _put(self, name: str, text: str) -> None:
        """Replace a file that the clients read."""
        self._client("sh", "-c", f"cat > /data/new && mv /data/new /data/{name}", given=text)

    def _client(self, *command: str, given: str = "") -> str:
        return kubectl("exec", "-i", "drill-clients", "--", *command, given=given)

    def _counts(self) -> dict[str, Any]:
        time.sleep(1.0)  # the clients write them several times a second
        found: dict[str, Any] = json.loads(self._client("cat", "/data/counts.json"))
        return found

    def write_overlay(self, **settings: str) -> None:
        folder = WORK / "overlay"
        folder.mkdir(parents=True, exist_ok=True)
        name, _, tag = self.image.rpartition(":")
        literals = "".join(f"      - {key}={value}\n" for key, value in settings.items())
        (folder / "kustomization.yaml").write_text(
            "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nnamespace: voipex\n"
            f"resources: [../../../tests/cluster]\nimages: [{{name: voipex-bridge, newName: {name}, newTag: {tag}}}]\n"
            f"configMapGenerator:\n  - name: voipex-settings\n    behavior: merge\n    literals:\n{literals}"
        )

    def apply(self) -> None:
        self.page.run(
            "kubectl apply -k deploy/k8s/overlays/prod", instead=("deploy/k8s/overlays/prod", "overlay")
        )

    def credentials(self, *arguments: str) -> str:
        environment = {**os.environ, "VOIPEX_CREDENTIALS_FILE": str(WORK / "credentials.json")}
        done = subprocess.run(
            [sys.executable, "-m", "bridge", "credentials", *arguments],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    # -------------------------------------------------- steps

    def begin(self) -> None:
        """Namespace, credentials, overlay; Kafka comes up beside the services, and nobody creates the topics."""
        self.write_overlay(VOIPEX_LOG_LEVEL="info")
        (WORK / "credentials.json").unlink(missing_ok=True)
        self.passwords[0] = json.loads(self.credentials("create", "site-7", "--json"))["password"]
        self.page.run("kubectl create namespace voipex")
        self.page.run("kubectl label namespace voipex pod-security.kubernetes.io/enforce=restricted")
        self.page.run(
            "kubectl -n voipex create secret generic voipex-credentials --from-file=credentials.json"
        )
        self.apply()
        eventually(
            lambda: len(pods("voipex-bridge")) == 2 and all(is_ready(pod) for pod in pods("voipex-bridge")),
            "no bridge is ready",
        )
        kubectl("wait", "--for=condition=Ready", "pod/drill-clients", f"--timeout={WITHIN_S:.0f}s")
        self._put("step", "begin")
        self._put("password", self.passwords[0])
        eventually(
            lambda: (
                kubectl("get", "pod", "kafka-0", "-o", "jsonpath={.status.containerStatuses[0].ready}")
                == "true"
            ),
            "no Kafka",
        )

    def everything_at_once(self) -> None:
        """Every service waits for its topics: no container ends."""
        with self.step("one apply of everything, the topics missing") as seen:
            time.sleep(WITHOUT_TOPICS_S)
            if any(restarts().values()):
                raise DrillFailed(f"not every service waits for the topics: {restarts()}\n{_state()}")
            waiting = [each for each in ("voipex-timelines", "voipex-agents") if not is_ready(pods(each)[0])]
            seen.append(f"{len(waiting)} of 2 consumers wait, not ready, no restart")
            kubectl("patch", "job", "voipex-topics", "-p", '{"spec":{"suspend":false}}')
            started = time.monotonic()
            kubectl("wait", "--for=condition=Complete", "job/voipex-topics", f"--timeout={WITHIN_S:.0f}s")
            settled()
            seen.append(f"all ready {time.monotonic() - started:.0f} s after the Job began")

    def roll_outs(self) -> None:
        for workload in SERVICES:
            with self.step(f"`rollout restart {workload}`"):
                kubectl("rollout", "restart", workload)
                kubectl("rollout", "status", workload, f"--timeout={WITHIN_S:.0f}s")

    def changed_settings(self) -> None:
        with self.step("a changed setting (ConfigMap), the Job again") as seen:
            self.page.run("kubectl -n voipex delete job voipex-topics")
            self.write_overlay(VOIPEX_LOG_LEVEL="debug")
            self.apply()
            settled()
            level = kubectl("exec", "voipex-bridge-0", "--", "printenv", "VOIPEX_LOG_LEVEL").strip()
            seen.append(f"all pods replaced, VOIPEX_LOG_LEVEL={level}")
            if level != "debug":
                raise DrillFailed("the pods do not have the changed setting")

    def deletions(self) -> None:
        with self.step("`delete pod`, one of each service"):
            for name in ("voipex-bridge", "voipex-timelines", "voipex-agents"):
                kubectl("delete", "pod", name_of(pods(name)[0]))
                settled()
        with self.step("`delete pod --force --grace-period=0`, one of each service", forced=True):
            for name in ("voipex-bridge", "voipex-timelines", "voipex-agents"):
                kubectl("delete", "pod", name_of(pods(name)[0]), "--force", "--grace-period=0")
                settled()

    def kills(self) -> None:
        with self.step("SIGKILL in a container of each service", forced=True) as seen:
            for name in ("voipex-bridge", "voipex-timelines", "voipex-agents"):
                pod = name_of(pods(name)[0])
                before = restarts()[pod]
                started = time.monotonic()
                kill(pod)
                eventually(partial(_was_restarted, pod, before), f"{pod} was not killed")
                settled()
                seen.append(
                    f"{name.removeprefix('voipex-')} available after {time.monotonic() - started:.0f} s"
                )

    def drain(self) -> None:
        """On a cluster of one node the evicted pods wait for it; on others they move."""
        node = pods("voipex-bridge")[0]["spec"]["nodeName"]
        with self.step("`drain` of the node, then `uncordon`") as seen:
            nodes = json.loads(run(["kubectl", "get", "nodes", "-o", "json"]))["items"]
            others = [
                each
                for each in nodes
                if each["metadata"]["name"] != node and not each["spec"].get("unschedulable")
            ]
            command = ["kubectl", "drain", node, "--ignore-daemonsets", "--delete-emptydir-data"]
            selector = "--pod-selector=app.kubernetes.io/part-of=voipex"
            with subprocess.Popen(
                [*command, selector], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            ) as draining:
                try:
                    if not others:
                        eventually(
                            lambda: _pending("voipex-bridge") == 1, f"no bridge was evicted\n{_state()}"
                        )
                        time.sleep(CALM_S)
                        ready = [pod for pod in pods("voipex-bridge") if is_ready(pod)]
                        seen.append(f"{len(ready)} of 2 bridges evicted at a time")
                        if len(ready) != 1:
                            raise DrillFailed(f"the disruption budget did not hold\n{_state()}")
                        run(["kubectl", "uncordon", node])
                    said = draining.communicate(timeout=WITHIN_S)[0]
                    if draining.returncode != 0:
                        raise DrillFailed(f"drain: exit {draining.returncode}\n{said}")
                finally:
                    draining.kill()
                    run(["kubectl", "uncordon", node])
            seen.append(f"{said.count('Cannot evict pod')} evictions refused meanwhile by the budget")

    def scale_consumers(self) -> None:
        for number in (3, 1):
            with self.step(f"timelines to {number}") as seen:
                started = time.monotonic()
                kubectl("scale", "deployment", "voipex-timelines", f"--replicas={number}")
                eventually(partial(_is_settled, "deployment/voipex-timelines"), f"not {number} available")
                seen.append(f"{number} available after {time.monotonic() - started:.0f} s")
        with self.step("timelines stopped completely, and started again"):
            self.page.run("kubectl -n voipex scale deployment voipex-timelines --replicas=0")
            eventually(
                lambda: not objects("pods", "-l", "app.kubernetes.io/name=voipex-timelines"), "still there"
            )
            kubectl("scale", "deployment", "voipex-timelines", "--replicas=1")

    def outage_of_kafka(self) -> None:
        with self.step(f"Kafka away for {OUTAGE_S:.0f} s") as seen:
            kubectl("scale", "statefulset", "kafka", "--replicas=0")
            eventually(lambda: not pods("kafka"), "Kafka is still there")
            time.sleep(OUTAGE_S)
            waiting = self._waiting("voipex-bridge-0") + self._waiting("voipex-bridge-1")
            if not all(is_ready(pod) for pod in pods("voipex-bridge")):
                raise DrillFailed("a bridge is not ready without Kafka")
            kubectl("scale", "statefulset", "kafka", "--replicas=1")
            started = time.monotonic()
            eventually(
                lambda: self._waiting("voipex-bridge-0") + self._waiting("voipex-bridge-1") < waiting / 10,
                "the spools are not published",
            )
            seen.append(
                f"{waiting:,} events waited, published {time.monotonic() - started:.0f} s after Kafka's start"
            )
            aborted = self._abort_hanging_transactions()
            if aborted:
                seen.append(f"the broker left {aborted} transactions hanging: aborted as in operations.md")

    def _waiting(self, pod: str) -> int:
        spools = json.loads(kubectl("exec", pod, "--", "voipex-bridge", "spool", "status", "--json"))
        return sum(int(spool["waiting_records"]) for spool in spools)

    def _abort_hanging_transactions(self) -> int:
        """
        Abort what a lone broker forgot when it stopped in the middle of a commit; return the number of partitions.

        docs/operations.md, "A transaction hangs". Seen in one of two outages, although the broker was stopped in order.
        """
        tool = [
            "exec",
            "kafka-0",
            "--",
            "/opt/kafka/bin/kafka-transactions.sh",
            "--bootstrap-server",
            "kafka:9092",
        ]
        time.sleep(HANGS_AFTER_S)
        found = kubectl(*tool, "find-hanging", "--broker-id", "1", "--max-transaction-timeout", "0")
        rows = [line.split() for line in found.splitlines()[1:]]
        for topic, partition, _, _, _, offset, *_ in rows:
            kubectl(*tool, "abort", "--topic", topic, "--partition", partition, "--start-offset", offset)
        if rows:
            kubectl("rollout", "restart", "deployment/voipex-timelines", "deployment/voipex-agents")
        return len(rows)

    def rotated_secret(self) -> None:
        with self.step("a rotated password (Secret)") as seen:
            self.passwords[1] = json.loads(self.credentials("rotate", "site-7", "--json"))["password"]
            seen.append(
                f"the new one accepted after {self._replace_credentials(self.passwords[1], '200'):.0f} s"
            )
            self._put("password", self.passwords[1])
            time.sleep(CALM_S)
            self.credentials("revoke", "site-7", "--old")
            seen.append(
                f"the old one refused after {self._replace_credentials(self.passwords[0], '401'):.0f} s"
            )

    def _replace_credentials(self, password: str, status: str) -> float:
        """Replace the Secret; return after how many seconds every bridge gives *status* to *password*."""
        line = (
            "kubectl -n voipex create secret generic voipex-credentials --from-file=credentials.json --dry-run=client -o yaml"
            " | kubectl -n voipex apply -f -"
        )
        self.page.run(line)
        started = time.monotonic()
        eventually(
            lambda: self._client("python", "/drill/clients.py", "post", password).split() == [status] * 2,
            f"not every bridge answers {status}",
            every_s=5.0,
        )
        return time.monotonic() - started

    def scale_bridges(self) -> None:
        """Scale in as documented: the log of the last one says that nothing waits."""
        with self.step("bridge 2 to 1") as seen:
            follow = self.page.take("kubectl -n voipex logs -f voipex-bridge-1")
            with subprocess.Popen(follow.split(), stdout=subprocess.PIPE, text=True) as following:
                self.page.run("kubectl -n voipex scale statefulset voipex-bridge --replicas=1")
                started = time.monotonic()
                log = following.communicate(timeout=WITHIN_S)[0]
            last = json.loads(log.splitlines()[-1])
            if (last["event"], last["waiting"]) != ("stopped", 0):
                raise DrillFailed(f"the last line of the bridge: {last}")
            seen.append(f'stopped after {time.monotonic() - started:.0f} s with `"waiting":0`')
        with self.step("bridge 1 to 2, on its old volume") as seen:
            kubectl("scale", "statefulset", "voipex-bridge", "--replicas=2")
            settled()
            self.page.run("kubectl -n voipex exec voipex-bridge-1 -- voipex-bridge spool status")
            seen.append(f"`/ready` through port-forward: {self._ready_of_the_second()}")

    def _ready_of_the_second(self) -> str:
        line = self.page.take("kubectl -n voipex port-forward voipex-bridge-1 8081")
        with subprocess.Popen([*line.split()[:-1], ":8081"], stdout=subprocess.PIPE, text=True) as forwarding:
            try:
                assert forwarding.stdout is not None
                said = forwarding.stdout.readline()  # Forwarding from 127.0.0.1:40000 -> 8081
                port = said.split(" -> ")[0].rpartition(":")[2]
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=WITHIN_S) as response:
                    return str(response.status)
            except urllib.error.HTTPError as error:
                raise DrillFailed(f"/ready: {error.code} {error.read().decode()}") from error
            finally:
                forwarding.kill()

    def other_commands(self) -> None:
        """What the page says about Kafka's passwords and KEDA. Without KEDA's operator an annotation changes nothing else."""
        with self.step("a Secret of a Kafka user; KEDA paused and resumed") as seen:
            (WORK / "password").write_text("a-password-of-the-drill")
            self.page.run("kubectl -n voipex create secret generic voipex-bridge --from-file=password")
            pause = 'kubectl -n voipex annotate scaledobject voipex-timelines autoscaling.keda.sh/paused-replicas="0"'
            resume = "kubectl -n voipex annotate scaledobject voipex-timelines autoscaling.keda.sh/paused-replicas-"
            if "scaledobjects.keda.sh" not in run(["kubectl", "get", "crd", "-o", "name"]):
                self.page.take(pause)
                self.page.take(resume)
                seen.append("no KEDA here: its two commands were not run")
                return
            kubectl(
                "apply", "-f", str(ROOT / "deploy" / "k8s" / "components" / "autoscaling" / "timelines.yaml")
            )
            self.page.run(pause)
            has_keda = "keda-operator" in run(["kubectl", "get", "deployments", "-A", "-o", "name"])
            if has_keda:
                eventually(
                    lambda: replicas_available("deployment/voipex-timelines") == 0, "KEDA did not pause"
                )
            seen.append("KEDA paused it" if has_keda else "annotated; no operator of KEDA here")
            self.page.run(resume)
            kubectl(
                "delete", "-f", str(ROOT / "deploy" / "k8s" / "components" / "autoscaling" / "timelines.yaml")
            )

    def memory(self) -> None:
        with self.step("memory: peak against limit") as seen:
            for name in ("voipex-bridge", "voipex-timelines", "voipex-agents"):
                seen.append(f"{name.removeprefix('voipex-')} {memory(name)}")

    def end(self) -> str:
        """Stop the clients, let the consumers read to the end, and compare."""
        self._client("touch", "/data/stop")
        eventually(lambda: self._counts()["done"], "the clients do not end")
        kept = [self._kept("python", "/drill/clients.py", "verify"), self._kept("voipex-consumers", "verify")]
        return "\n".join(kept)

    def _kept(self, *command: str) -> str:
        """Run a comparison until it ends with 0; return what it printed."""

        def compare() -> str:
            done = subprocess.run(
                ["kubectl", "-n", NAMESPACE, "exec", "drill-clients", "--", *command],
                capture_output=True,
                text=True,
                check=False,
                timeout=2 * WITHIN_S,
            )
            self.last = done.stdout + done.stderr
            return done.stdout if done.returncode == 0 else ""

        try:
            return eventually(compare, " ".join(command), every_s=5.0)
        except DrillFailed as failure:
            raise DrillFailed(f"{failure}\n{self.last}") from failure


def _pending(name: str) -> int:
    return sum(pod["status"]["phase"] == "Pending" and "nodeName" not in pod["spec"] for pod in pods(name))


# ---------------------------------------------------------------------------------------------------- main


def versions() -> str:
    found = json.loads(run(["kubectl", "version", "-o", "json"]))
    nodes = json.loads(run(["kubectl", "get", "nodes", "-o", "json"]))["items"]
    info = nodes[0]["status"]["nodeInfo"]
    return (
        f"Kubernetes {found['serverVersion']['gitVersion']}, nodes: {len(nodes)} ({info['containerRuntimeVersion']}, "
        f"{nodes[0]['status']['capacity']['cpu']} CPUs), Kafka 4.3.1"
    )


def main() -> int:
    """Run the drill; print the table. Return 1 if a promise was broken."""
    image = os.environ.get("IMAGE", "")
    if not image or not os.environ.get("KUBECONFIG"):
        print(
            "KUBECONFIG must name a cluster, and IMAGE an image that its nodes have, such as voipex-bridge:local",
            file=sys.stderr,
        )
        return 2
    WORK.mkdir(parents=True, exist_ok=True)
    if f"namespace/{NAMESPACE}" in run(["kubectl", "get", "namespaces", "-o", "name"]).split():
        print(
            f"the cluster has a namespace {NAMESPACE!r}: delete it, or use another cluster", file=sys.stderr
        )
        return 2
    drill = Drill(image)
    print(versions())
    print("\n| step | took | 2xx | failed | slowest | seen |\n|---|---|---|---|---|---|", flush=True)
    try:
        drill.begin()
        for step in (
            drill.everything_at_once,
            drill.roll_outs,
            drill.changed_settings,
            drill.deletions,
            drill.kills,
            drill.drain,
            drill.scale_consumers,
            drill.outage_of_kafka,
            drill.rotated_secret,
            drill.scale_bridges,
            drill.other_commands,
            drill.memory,
        ):
            step()
        print(f"\n{drill.end()}")
        drill.page.check()
        print(f"{drill.page.number} kubectl commands of {PAGE.name} run")
    except DrillFailed as failure:
        drill.failures.append(str(failure))
    finally:
        if not os.environ.get("KEEP"):
            run(["kubectl", "delete", "namespace", NAMESPACE, "--wait=false"])
    for each in drill.failures:
        print(f"\nFAILED: {each}", file=sys.stderr)
    return 1 if drill.failures else 0


if __name__ == "__main__":
    sys.exit(main())
