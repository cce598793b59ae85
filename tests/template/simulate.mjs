// Evaluates requests against IAM policies: reads a JSON array of simulations from stdin and prints an array of results, in the words of
// @cloud-copilot/iam-simulate. This file must be in a folder in which Node finds that package.
import { runSimulation } from '@cloud-copilot/iam-simulate';
import { text } from 'node:stream/consumers';

const results = [];
for (const simulation of JSON.parse(await text(process.stdin))) {
  const { resultType, overallResult, errors } = await runSimulation(simulation, {});
  // An unreadable policy or an unknown action must not count as a denial.
  if (resultType === 'error') throw new Error(JSON.stringify({ errors, request: simulation.request }));
  results.push(overallResult);
}
console.log(JSON.stringify(results));
