// Stochastic gradient descent with momentum and weight decay.  Mirrors train/sgd.py.

/** v <- momentum v + dL/dtheta + decay theta,   theta <- theta - rate v;  written in place. */
export function sgdStep(parameters, gradients, velocity, { rate, momentum, decay }) {
  for (const [name, theta] of Object.entries(parameters)) {
    const v = velocity[name], d = gradients[name];
    for (let i = 0; i < theta.length; i++) {
      v[i] = momentum * v[i] + d[i] + decay * theta[i];
      theta[i] -= rate * v[i];
    }
  }
}
