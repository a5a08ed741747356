// k6, the stress profile: up to 5,000 tasks a second from up to 500 users.
//
//   NO_TOKEN=$(cat data/admin.token) k6 run loadtest/stress-test.js
//
// BASE_URL is http://127.0.0.1:3000 unless set. Arrivals are by the clock and not by users who wait
// for their answer, so a server that stalls is not spared. The same stages and thresholds stand in
// loadtest/src/profile.rs; a test keeps them equal. `make load PROFILE=stress` needs no k6.
import http from 'k6/http';
import { check } from 'k6';

const BASE_URL = __ENV.BASE_URL || 'http://127.0.0.1:3000';
const TOKEN = __ENV.NO_TOKEN;

/** @type {import('k6/options').Options} */
export const options = {
  scenarios: {
    submit: {
      executor: 'ramping-arrival-rate',
      startRate: 0,
      timeUnit: '1s',
      preAllocatedVUs: 500,
      maxVUs: 500,
      stages: [
        { duration: '20s', target: 2500 },
        { duration: '30s', target: 2500 },
        { duration: '20s', target: 5000 },
        { duration: '30s', target: 5000 },
        { duration: '20s', target: 0 },
      ],
    },
  },
  thresholds: {
    http_req_duration: ['p(50)<100', 'p(90)<300', 'p(95)<500', 'p(99)<1000'],
    http_reqs: ['rate>1000'],
    http_req_failed: ['rate<0.001'],
    checks: ['rate>0.999'],
  },
};

export function setup() {
  if (!TOKEN) {
    throw new Error('set NO_TOKEN to a token that may submit tasks');
  }
}

export default function () {
  const body = JSON.stringify({ agent: 'echo', input: { n: 1 } });
  const answer = http.post(`${BASE_URL}/v1/tasks`, body, {
    headers: { 'Content-Type': 'application/json', Authorization: `Bearer ${TOKEN}` },
    tags: { name: 'POST /v1/tasks' },
  });
  check(answer, {
    'the task is accepted': (a) => a.status === 202,
    'it has an id': (a) => typeof a.json('id') === 'string',
  });
}
