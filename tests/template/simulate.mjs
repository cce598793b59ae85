// Judges requests by IAM policies: takes a JSON array of simulations on stdin, gives an array of results, as
// @cloud-copilot/iam-simulate words them. It must stand where Node finds that package.
import { runSimulation } from '@cloud-copilot/iam-simulate';
import { text } from 'node:stream/consumers';

const results = [];
for (const simulation of JSON.parse(await text(process.stdin))) {
  const { resultType, overallResult, errors } = await runSimulation(simulation, {});
  // A policy that it cannot read, or an action it does not know, is no denial.
  if (resultType === 'error') throw new Error(JSON.stringify({ errors, request: simulation.request }));
  results.push(overallResult);
}
console.log(JSON.stringify(results));
