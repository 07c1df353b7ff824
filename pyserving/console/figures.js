// Rates and percentiles between two of the samples in live.js, which count from the start of the server.

// The latest sample that is at least `seconds` older than that at `end`; the first one where none is.
function before(samples, end, seconds) {
  let i = end;
  while (i > 0 && samples[end].when - samples[i].when < seconds) i -= 1;
  return samples[i];
}

function ofModels(metrics, name, take) {
  const found = name ? [metrics.requests[name]] : Object.values(metrics.requests);
  return found.filter(Boolean).map(take);
}

const total = (values) => values.reduce((sum, value) => sum + value, 0);
const okCount = (metrics, name) => total(ofModels(metrics, name, (one) => one.ok));
const errorCount = (metrics, name) => total(ofModels(metrics, name, (one) => total(Object.values(one.errors))));

function latencyCounts(metrics, name) {
  const counts = new Array(metrics.latency_bounds.length + 1).fill(0);
  for (const latency of ofModels(metrics, name, (one) => one.latency)) {
    latency?.counts.forEach((count, i) => (counts[i] += count));
  }
  return counts;
}

// Each returns what held at sample `end`, for one model, or for all where `name` is empty; null where nothing is known.

function perSecond(samples, end, count) {
  const from = before(samples, end, 3);
  const seconds = samples[end].when - from.when;
  return seconds > 0 ? Math.max(0, count(samples[end].metrics) - count(from.metrics)) / seconds : null;
}

export const okRate = (samples, end, name) => perSecond(samples, end, (metrics) => okCount(metrics, name));
export const errorRate = (samples, end, name) => perSecond(samples, end, (metrics) => errorCount(metrics, name));
export const cpu = (samples, end) => perSecond(samples, end, (metrics) => metrics.cpu_seconds);

// Seconds, for each of `shares` (0.99: the 99th percentile), of the answers of the last 10 s.
export function latency(samples, end, name, shares) {
  const now = latencyCounts(samples[end].metrics, name);
  const then = latencyCounts(before(samples, end, 10).metrics, name);
  const counts = now.map((count, i) => count - then[i]);
  return shares.map((share) => percentile(counts, samples[end].metrics.latency_bounds, share, 1e-6));
}

// Requests that one run answered, on average over 10 s, where they wait for others.
export function batchSize(samples, end) {
  const now = samples[end].metrics.batches;
  const then = before(samples, end, 10).metrics.batches;
  if (!now) return null;
  const runs = total(now.counts) - total(then?.counts ?? []);
  return runs > 0 ? (now.sum - (then?.sum ?? 0)) / runs : null;
}

export function batchCounts(samples) {
  const now = samples.at(-1)?.metrics;
  return now?.batches ? { bounds: now.batch_bounds, counts: now.batches.counts } : null;
}

// Where in its bucket a value lies is not known: it is taken as spread evenly.
function percentile(counts, bounds, share, unit) {
  const all = total(counts);
  if (all <= 0) return null;
  let left = share * all;
  for (let i = 0; i < counts.length; i += 1) {
    if (left <= counts[i]) {
      const low = i ? bounds[i - 1] : 0;
      const high = bounds[Math.min(i, bounds.length - 1)];
      return (low + ((high - low) * left) / counts[i]) * unit;
    }
    left -= counts[i];
  }
  return bounds.at(-1) * unit;
}
