"""The part of `check` that reads documents: schemas, what a schema cannot know, and the programs' own check-config.

Each file in WORK/rendered is one set, as it would be applied. Resources of operators are written down as TypeScript,
for its compiler to hold against their types.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import kubernetes_validate
import yaml

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent

# The oldest that has all that is used (a `sleep` before the stop, the eviction of pods that are not ready), and the
# newest that there are schemas for.
KUBERNETES = ["1.30", "1.37"]

# Where the type of an operator's resource is declared.
TYPES = {
    ("keda.sh/v1alpha1", "ScaledObject"): "keda/keda.sh/v1alpha1",
    ("keda.sh/v1alpha1", "TriggerAuthentication"): "keda/keda.sh/v1alpha1",
    ("monitoring.coreos.com/v1", "PodMonitor"): "prometheus-operator/monitoring.coreos.com/v1",
    ("monitoring.coreos.com/v1", "PrometheusRule"): "prometheus-operator/monitoring.coreos.com/v1",
    ("postgresql.cnpg.io/v1", "Cluster"): "cloudnative-pg/postgresql.cnpg.io/v1",
}

# What KEDA's page on its scaler for RabbitMQ names; in its type this is any map of texts.
RABBITMQ_SCALER = {
    "host", "hostFromEnv", "usernameFromEnv", "passwordFromEnv", "protocol", "mode", "value", "activationValue",
    "queueName", "vhostName", "excludeUnacknowledged", "useRegex", "pageSize", "operation", "timeout", "unsafeSsl",
}

# A secret's content as the programs would read it, by how its key ends.
SECRETS = {
    "amqp_url": "amqp://rota_router:password@rabbitmq:5672/%2f",
    "database_url": "postgres://rota_router:password@postgres:5432/rota",
    ".webhook": "https://acme.bitrix24.com/rest/1/secret/",
    ".token": "51856fefc120afa4b628cc82d3935cce",
    "rabbitmq_url": "http://rota:password@rabbitmq:15672/%2f",
}

# What is wrong, and in which sets: most of it is in the base, and so in all of them.
problems = {}


def problem(where, what):
    problems.setdefault(str(what), []).append(str(where))


class Loader(yaml.SafeLoader):
    """Refuses a key that is there twice, of which YAML's usual reader takes the last."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.YAMLError(f"line {node.start_mark.line + 1}: `{key}` is there twice")
        return super().construct_mapping(node, deep)


def documents(path):
    try:
        return [document for document in yaml.load_all(path.read_text(), Loader) if document]
    except yaml.YAMLError as error:
        problem(path, error)
        return []


def title(document):
    return f"{document['kind']}/{document['metadata']['name']}"


def check_schema(where, document):
    """Against the schemas of Kubernetes."""
    for version in KUBERNETES:
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            place = ".".join(map(str, error.path))
            problem(where, f"{title(document)}: Kubernetes {version}: {place}: {error.message}")
        except kubernetes_validate.SchemaNotFoundError:
            problem(where, f"{title(document)}: neither Kubernetes {version} nor an operator known here has it")


def check_types(npm, resources):
    """What belongs to an operator, against the types in NPM/node_modules; the files must stand beside that folder."""
    typed = npm / "typed"
    shutil.rmtree(typed, ignore_errors=True)
    typed.mkdir()
    places = {}
    for number, (where, document) in enumerate(resources):
        kind = document["kind"]
        module = f"@kubernetes-models/{TYPES[document['apiVersion'], kind]}/{kind}"
        text = json.dumps(document, indent=2)
        file = typed / f"{number}.ts"
        file.write_text(f'import {{ I{kind} }} from "{module}";\nexport const it: I{kind} = {text};\n')
        places[file.name] = (where, document)
    command = [npm / "node_modules/.bin/tsc", "--noEmit", "--strict", "--skipLibCheck", "--module", "nodenext"]
    files = [f"typed/{name}" for name in places]
    result = subprocess.run([*command, *files], cwd=npm, capture_output=True, text=True, check=False)
    for line in result.stdout.splitlines():
        # typed/3.ts(19,5): error TS2353: …; the lines that go on begin with a blank.
        if found := re.match(r"typed/(\d+\.ts)\(\d+,\d+\): error \w+: (.*)", line):
            where, document = places[found[1]]
            problem(where, f"{title(document)}: {found[2]}")
    if result.returncode != 0 and not problems:
        problem("tsc", (result.stdout + result.stderr).strip())


def selects(selector, labels):
    return all(labels.get(key) == value for key, value in selector.items())


class Set:
    """All that is applied together."""

    def __init__(self, name, docs):
        self.name = name
        self.docs = docs
        self.workloads = self.of("Deployment") + self.of("StatefulSet")
        self.jobs = self.of("Job")

    def of(self, kind):
        return [document for document in self.docs if document["kind"] == kind]

    def named(self, kind, name):
        return next((d for d in self.of(kind) if d["metadata"]["name"] == name), None)

    def problem(self, document, what):
        problem(self.name, f"{title(document)}: {what}")

    def selected(self, document, selector):
        """The workloads whose pods a selector takes; none is always a mistake."""
        found = [w for w in self.workloads if selects(selector, w["spec"]["template"]["metadata"]["labels"])]
        if not found:
            self.problem(document, f"the selector {selector} takes no pod")
        return found

    def port(self, document, workload, port):
        """A port by name must be one of the containers'; by number too, so that the name is known."""
        ports = [p for c in containers(workload) for p in c.get("ports", [])]
        if not any(port in (p["name"], p["containerPort"]) for p in ports):
            self.problem(document, f"{title(workload)} has no port `{port}`")

    def check(self):
        """All that a schema cannot know, but for the configuration."""
        namespaces = {d["metadata"].get("namespace") for d in self.docs if d["kind"] != "Namespace"}
        if namespaces != {d["metadata"]["name"] for d in self.of("Namespace")}:
            names = ", ".join(sorted(map(str, namespaces)))
            problem(self.name, f"not all is in the namespace that is made: {names}")
        for workload in self.workloads:
            try:
                self.check_workload(workload)
            except KeyError as key:
                self.problem(workload, f"has no {key}")
        for job in self.jobs:
            try:
                self.check_confined(job)
            except KeyError as key:
                self.problem(job, f"has no {key}")
        for service in self.of("Service"):
            for workload in self.selected(service, service["spec"]["selector"]):
                for port in service["spec"]["ports"]:
                    self.port(service, workload, port["targetPort"])
        for budget in self.of("PodDisruptionBudget"):
            if len(self.selected(budget, budget["spec"]["selector"]["matchLabels"])) > 1:
                self.problem(budget, "takes more than one stage's pods")
        for policy in self.of("NetworkPolicy"):
            rules = policy["spec"].get("ingress", [])
            ports = [port["port"] for rule in rules for port in rule.get("ports", [])]
            for workload in self.selected(policy, policy["spec"]["podSelector"].get("matchLabels", {})):
                for port in ports:
                    self.port(policy, workload, port)
        for ingress in self.of("Ingress"):
            self.check_ingress(ingress)
        for monitor in self.of("PodMonitor"):
            # RabbitMQ's pods are made by its operator, not here.
            if monitor["metadata"]["name"] != "rabbitmq":
                for workload in self.selected(monitor, monitor["spec"]["selector"]["matchLabels"]):
                    for endpoint in monitor["spec"]["podMetricsEndpoints"]:
                        self.port(monitor, workload, endpoint["port"])
                    if monitor["spec"]["jobLabel"] not in workload["spec"]["template"]["metadata"]["labels"]:
                        self.problem(monitor, f"the pods of {title(workload)} have no label for the job")
        for scaled in self.of("ScaledObject"):
            self.check_scaled(scaled)

    def check_workload(self, workload):
        spec = workload["spec"]
        pod = spec["template"]["spec"]
        labels = spec["template"]["metadata"]["labels"]
        name = workload["metadata"]["name"]
        selector = spec["selector"]["matchLabels"]
        if not selects(selector, labels):
            self.problem(workload, f"the selector {selector} does not take its own pods {labels}")
        others = [w for w in self.workloads if w is not workload]
        for other in others:
            if selects(selector, other["spec"]["template"]["metadata"]["labels"]):
                self.problem(workload, f"the selector {selector} takes the pods of {title(other)} too")
        for constraint in pod["topologySpreadConstraints"]:
            if not selects(constraint["labelSelector"]["matchLabels"], labels):
                self.problem(workload, "a topologySpreadConstraint does not take its own pods")
        if not any(
            selects(b["spec"]["selector"]["matchLabels"], labels) for b in self.of("PodDisruptionBudget")
        ):
            self.problem(workload, "has no PodDisruptionBudget")
        if workload["kind"] == "StatefulSet":
            service = self.named("Service", spec["serviceName"])
            if not service or service["spec"].get("clusterIP") != "None":
                self.problem(workload, f"serviceName: there is no headless Service/{spec['serviceName']}")

        self.check_confined(workload)
        for container in containers(workload):
            ports = {port["name"] for port in container["ports"]}
            for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
                probe = container[kind]
                action = probe.get("httpGet") or probe["tcpSocket"]
                if action["port"] not in ports:
                    self.problem(workload, f"{kind}: there is no port `{action['port']}`")
            if container["livenessProbe"]["httpGet"]["path"] != "/live":
                self.problem(workload, "livenessProbe: anything but /live kills it for what others do")
            if container["image"].rsplit("/", 1)[-1].split(":")[0] != name:
                self.problem(workload, f"has the image {container['image']}")

    def check_confined(self, workload):
        """Of pods of any kind: who may speak with them, as whom they run, and what they have mounted."""
        spec = workload["spec"]
        pod = spec["template"]["spec"]
        labels = spec["template"]["metadata"]["labels"]
        for wanted in ("Ingress", "Egress"):
            if not any(
                selects(p["spec"]["podSelector"].get("matchLabels", {}), labels)
                and wanted in p["spec"]["policyTypes"] and wanted.lower() not in p["spec"]
                for p in self.of("NetworkPolicy")
            ):
                self.problem(workload, f"no NetworkPolicy denies it {wanted} by default")

        # What the namespace's label `restricted` makes the cluster demand, and a little more.
        security = pod["securityContext"]
        if not security.get("runAsNonRoot") or security.get("runAsUser") != 10001:
            self.problem(workload, "must run as 10001")
        if security.get("seccompProfile") != {"type": "RuntimeDefault"}:
            self.problem(workload, "must have the seccomp profile RuntimeDefault")
        if pod.get("automountServiceAccountToken") is not False:
            self.problem(workload, "must not get a token for the cluster")

        volumes = {volume["name"] for volume in pod["volumes"]}
        volumes |= {claim["metadata"]["name"] for claim in spec.get("volumeClaimTemplates", [])}
        mounted = {mount["name"] for c in containers(workload) for mount in c["volumeMounts"]}
        if volumes != mounted:
            self.problem(workload, f"volumes {sorted(volumes)}, but mounted are {sorted(mounted)}")
        for container in containers(workload):
            own = container["securityContext"]
            if (
                own.get("allowPrivilegeEscalation") is not False
                or own.get("readOnlyRootFilesystem") is not True
                or own.get("capabilities") != {"drop": ["ALL"]}
                or own.get("privileged")
            ):
                self.problem(workload, "the container may do more than it needs")
            if "memory" not in container["resources"]["limits"]:
                self.problem(workload, "the memory has no limit")

    def check_ingress(self, ingress):
        for rule in ingress["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                if (path["path"], path["pathType"]) != ("/bitrix24/", "Prefix"):
                    self.problem(ingress, f"lets {path['path']} in; portals post to /bitrix24/ alone")
                backend = path["backend"]["service"]
                service = self.named("Service", backend["name"])
                names = [port["name"] for port in service["spec"]["ports"]] if service else []
                if backend["port"]["name"] not in names:
                    self.problem(ingress, f"there is no Service/{backend['name']} with port {backend['port']}")
        tls = {host for entry in ingress["spec"].get("tls", []) for host in entry["hosts"]}
        if tls != {rule["host"] for rule in ingress["spec"]["rules"]}:
            self.problem(ingress, "each host must have a certificate: portals speak TLS only")

    def check_scaled(self, scaled):
        target = self.named("Deployment", scaled["spec"]["scaleTargetRef"]["name"])
        if not target or target["metadata"]["name"] != "router":
            self.problem(scaled, "must scale Deployment/router")
        elif "replicas" in target["spec"]:
            self.problem(scaled, "Deployment/router has `replicas` too; they would be set back and forth")
        prefix = self.setting("amqp", "prefix")
        queues = {f"{prefix}.{portal['name']}.lead-events" for portal in self.configuration()["portals"]}
        for trigger in scaled["spec"]["triggers"]:
            metadata = trigger["metadata"]
            for key in metadata.keys() - RABBITMQ_SCALER:
                self.problem(scaled, f"the scaler for RabbitMQ does not know `{key}`")
            if metadata.get("queueName") not in queues:
                self.problem(scaled, f"queue {metadata.get('queueName')}, but rota.yaml makes {sorted(queues)}")
            if (metadata.get("protocol"), metadata.get("excludeUnacknowledged")) != ("http", "true"):
                self.problem(scaled, "counts what is in hand; needs protocol http and excludeUnacknowledged")
            reference = self.named("TriggerAuthentication", trigger["authenticationRef"]["name"])
            if not reference:
                self.problem(scaled, f"there is no TriggerAuthentication/{trigger['authenticationRef']['name']}")
                continue
            for secret in reference["spec"]["secretTargetRef"]:
                if secret["key"] not in documented_secrets().get(secret["name"], []):
                    self.problem(reference, f"README.md makes no secret {secret['name']} with {secret['key']}")

    def configuration(self):
        """rota.yaml of this set."""
        maps = [d for d in self.of("ConfigMap") if "rota.yaml" in d["data"]]
        if len(maps) != 1:
            problem(self.name, f"{len(maps)} config maps have a rota.yaml")
            return {"portals": []}
        return yaml.safe_load(maps[0]["data"]["rota.yaml"])

    def setting(self, section, key):
        """What holds in this set; what rota.yaml leaves out has its default."""
        defaults = yaml.safe_load((ROOT / "config/default.yaml").read_text())
        return self.configuration().get(section, {}).get(key, defaults[section][key])

    def check_configuration(self, workload, programs):
        """Lays out the files as they would be mounted and lets the program read them."""
        (container,) = containers(workload)
        volumes = {volume["name"]: volume for volume in workload["spec"]["template"]["spec"]["volumes"]}
        with tempfile.TemporaryDirectory() as folder:
            moved = {}
            for mount in container["volumeMounts"]:
                path = Path(folder + mount["mountPath"])
                path.mkdir(parents=True)
                moved[mount["mountPath"]] = str(path)
                for name, text in self.files(workload, volumes.get(mount["name"], {})).items():
                    (path / name).write_text(text)

            def move(text):
                for here, there in moved.items():
                    if text == here or text.startswith(here + "/"):
                        return there + text[len(here):]
                return text

            environment = {entry["name"]: move(entry["value"]) for entry in container["env"]}
            command = [str(programs / container["name"]), "check-config", *map(move, container["args"])]
            result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            if result.returncode != 0:
                said = (result.stderr + result.stdout).strip().replace(folder, "")
                self.problem(workload, f"check-config: exit {result.returncode}: {said}")

        # What check-config cannot know, as it sees no ports and no grace of the pod.
        listens = {
            "admin": environment.get("ROTA__ADMIN__LISTEN", self.setting("admin", "listen")),
            "http": self.setting("http", "listen"),
        }
        for port in container["ports"]:
            listen = listens[port["name"]]
            if listen != f"0.0.0.0:{port['containerPort']}":
                self.problem(workload, f"port {port['containerPort']}, but it listens on {listen}")
        grace = self.setting("shutdown", "grace")
        seconds = int(grace[:-1]) * {"s": 1, "m": 60}[grace[-1]]
        before = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        given = workload["spec"]["template"]["spec"].get("terminationGracePeriodSeconds", 30)
        if given <= seconds + before:
            self.problem(workload, f"is killed after {given} s, but stops for {before} s and a grace of {grace}")

    def files(self, workload, volume):
        """What a volume holds, by file name."""
        sources = volume.get("projected", {}).get("sources", [volume])
        files = {}
        for source in sources:
            if "configMap" in source:
                name = source["configMap"]["name"]
                found = self.named("ConfigMap", name)
                if not found:
                    self.problem(workload, f"there is no ConfigMap/{name}")
                    continue
                files.update(found["data"])
            if "secret" in source:
                name = source["secret"].get("secretName") or source["secret"]["name"]
                keys = documented_secrets().get(name)
                if not keys:
                    self.problem(workload, f"README.md makes no secret {name}")
                    continue
                for key in keys:
                    content = [text for end, text in SECRETS.items() if key.endswith(end)]
                    files[key] = content[0] + "\n"
        return files


def containers(workload):
    return workload["spec"]["template"]["spec"]["containers"]


def documented_secrets():
    """The secrets that README.md tells to make, with their keys."""
    text = (HERE / "README.md").read_text().replace("\\\n", " ")
    made = re.findall(r"create secret generic (\S+)((?:\s+--from-file=\S+)+)", text)
    return {name: re.findall(r"--from-file=([^\s=]+)", files) for name, files in made}


def check_kustomization(path, sets):
    """A patch or an image that finds nothing is no mistake to kustomize; to us it is."""
    kustomization = yaml.safe_load(path.read_text())
    folder = path.parent.name
    (own,) = [each for each in sets if each.name in (folder, f"base+{folder}")]
    for patch in kustomization.get("patches", []):
        # Without a target, or one by labels, kustomize decides.
        target = patch.get("target", {})
        if "kind" in target and "name" in target and not own.named(target["kind"], target["name"]):
            problem(path.relative_to(HERE), f"there is no {target['kind']}/{target['name']} to patch")
    used = {container["image"] for each in own.workloads + own.jobs for container in containers(each)}
    for image in kustomization.get("images", []):
        wanted = image.get("newName", image["name"])
        if not any(each.startswith((f"{wanted}:", f"{wanted}@")) for each in used):
            problem(path.relative_to(HERE), f"there is no image {image['name']} to replace")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--npm", type=Path)
    parser.add_argument("--programs", type=Path)
    arguments = parser.parse_args()

    rendered = sorted((arguments.work / "rendered").glob("*.yaml"))
    sets = [Set(path.stem, documents(path)) for path in rendered]
    whole = [each for each in sets if each.workloads]
    places = [(each.name, document) for each in sets for document in each.docs]
    # Examples are in no set; without kustomize nothing is. What has no kind is not for Kubernetes: rota.yaml and
    # routing.yaml, which the programs read.
    for path in sorted((HERE / "examples" if whole else HERE).rglob("*.yaml")):
        for document in documents(path):
            if document.get("kind") not in (None, "Kustomization", "Component"):
                places.append((path.relative_to(HERE), document))

    resources = [place for place in places if (place[1].get("apiVersion"), place[1].get("kind")) in TYPES]
    for where, document in places:
        if (document.get("apiVersion"), document.get("kind")) not in TYPES:
            check_schema(where, document)
    if arguments.npm:
        check_types(arguments.npm, resources)

    # A document that is not even shaped right would only confuse what follows.
    if not problems:
        for each in whole:
            each.check()
            for workload in each.workloads:
                if arguments.programs:
                    each.check_configuration(workload, arguments.programs)
        if whole:
            for path in sorted(HERE.rglob("kustomization.yaml")):
                check_kustomization(path, whole)

    for what, where in problems.items():
        print(f"check: {', '.join(dict.fromkeys(where))}: {what}", file=sys.stderr)
    if problems:
        sys.exit(1)
    own = len(places) - len(resources)
    print(f"check: {own} documents are as Kubernetes {' and '.join(KUBERNETES)} wants them, strictly")
    if arguments.npm:
        print(f"check: {len(resources)} resources of operators are as their types want them")
    for each in whole:
        print(f"check: {each.name}: {len(each.docs)} documents fit together")
        if arguments.programs:
            names = ", ".join(workload["metadata"]["name"] for workload in each.workloads)
            print(f"check: {each.name}: the configuration is in order for {names}")


if __name__ == "__main__":
    main()
