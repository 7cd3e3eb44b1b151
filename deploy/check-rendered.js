/**
 * check-rendered.js PLAIN KUBEBLOCKS CLUSTER: what existing deployments of this kind rely on, checked in rendered manifests: component names,
 * ports, replicas, volumes, resources.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { parseAllDocuments } from 'yaml';

const [plainPath, kubeblocksPath, clusterPath] = process.argv.slice(2);
const read = (path) =>
  parseAllDocuments(readFileSync(path, 'utf8'), { merge: true })
    .map((document) => document.toJS())
    .filter((object) => object !== null);

function find(objects, kind, name) {
  const found = objects.find((object) => object.kind === kind && object.metadata.name === name);
  assert.ok(found, `no ${kind} ${name}`);
  return found;
}

const servicePorts = (objects, name) =>
  find(objects, 'Service', name)
    .spec.ports.map(({ port }) => port)
    .sort((a, b) => a - b);

function checkPlain(objects) {
  assert.deepEqual(servicePorts(objects, 'neon-broker'), [50051, 50052]);
  assert.deepEqual(servicePorts(objects, 'neon-safekeeper'), [5454, 7676]);
  assert.deepEqual(servicePorts(objects, 'neon-pageserver'), [6400, 9898, 51051]);
  assert.deepEqual(servicePorts(objects, 'neon-compute'), [3080, 55432]);
  const safekeeper = find(objects, 'StatefulSet', 'neon-safekeeper').spec;
  assert.equal(safekeeper.replicas, 3);
  assert.equal(safekeeper.volumeClaimTemplates[0].spec.resources.requests.storage, '20Gi');
  assert.ok(
    safekeeper.template.spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution.length > 0,
  );
  assert.equal(find(objects, 'PodDisruptionBudget', 'neon-safekeeper').spec.maxUnavailable, 1);
  find(objects, 'StatefulSet', 'neon-pageserver');
  find(objects, 'Deployment', 'neon-broker');
  find(objects, 'Deployment', 'neon-compute');
  find(objects, 'Secret', 'neon-object-store');
  find(objects, 'Secret', 'neon-compute-admin');
  for (const { kind, metadata, spec } of objects) {
    if (kind !== 'Deployment' && kind !== 'StatefulSet') continue;
    const [container] = spec.template.spec.containers;
    const name = `${kind} ${metadata.name}`;
    assert.deepEqual(container.resources.requests, { cpu: '500m', memory: '512Mi' }, name);
    assert.deepEqual(container.resources.limits, { cpu: '1', memory: '2Gi' }, name);
    for (const probe of ['startupProbe', 'readinessProbe', 'livenessProbe'])
      assert.ok(container[probe], `${name}: ${probe}`);
    assert.equal(spec.template.spec.securityContext.runAsNonRoot, true, name);
    const known = new Set(container.ports.map((port) => port.name));
    assert.ok(known.has(container.readinessProbe.httpGet.port), `${name}: the probe's port is none of the container's`);
  }
}

function checkKubeBlocks(objects, clusters) {
  const { topologies } = find(objects, 'ClusterDefinition', 'neon').spec;
  const topology = topologies.find(({ name }) => name === 'default');
  const [cluster] = clusters;
  assert.equal(cluster.spec.clusterDef, 'neon');
  assert.equal(cluster.spec.topology, 'default');
  const wanted = { 'neon-broker': 1, 'neon-safekeeper': 3, 'neon-pageserver': 1, 'neon-compute': 1 };
  assert.deepEqual(
    Object.fromEntries(cluster.spec.componentSpecs.map(({ name, replicas }) => [name, replicas])),
    wanted,
  );
  const ports = {
    'neon-broker': [50051],
    'neon-safekeeper': [5454, 7676],
    'neon-pageserver': [6400, 51051, 9898],
    'neon-compute': [55432],
  };
  for (const component of Object.keys(wanted)) {
    const { compDef } = topology.components.find(({ name }) => name === component);
    const definition = objects.find(
      ({ kind, metadata }) => kind === 'ComponentDefinition' && new RegExp(compDef).test(metadata.name),
    );
    assert.ok(definition, `nothing matches ${compDef}`);
    assert.deepEqual(
      definition.spec.services[0].spec.ports.map(({ port }) => port),
      ports[component],
    );
    const [container] = definition.spec.runtime.containers;
    const volumes = cluster.spec.componentSpecs.find(({ name }) => name === component).volumeClaimTemplates ?? [];
    const provided = new Set(
      [...volumes, ...(definition.spec.scripts ?? []), ...(definition.spec.configs ?? [])].map(
        (v) => v.volumeName ?? v.name,
      ),
    );
    for (const { name } of container.volumeMounts ?? [])
      assert.ok(provided.has(name), `${component}: nobody provides the volume ${name}`);
    const version = find(objects, 'ComponentVersion', component).spec;
    assert.ok(version.releases[0].images[container.name], `${component}: no image for ${container.name}`);
  }
}

checkPlain(read(plainPath));
checkKubeBlocks(read(kubeblocksPath), read(clusterPath));
