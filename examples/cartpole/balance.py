"""Balances CartPole at a provider, for the given number of episodes (default 2).

    python3 balance.py [--episodes N] [--seed N] -- mman request env ENVIRONMENT

Remote has the methods of gymnasium.Env, so that it stands where one is expected;
Gymnasium itself is not needed.
"""

import json
import subprocess
import sys


class Remote:
    """An environment behind `mman request env`."""

    def __init__(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.spec = self._read()["spec"]
        self.bill = None

    def _read(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("the environment ended with exit code %d" % self.process.wait())
        answer = json.loads(line)
        if "error" in answer:
            raise ValueError(answer["error"])
        return answer

    def _ask(self, request):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return self._read()

    def reset(self, *, seed=None, options=None):
        answer = self._ask({"reset": {"num_envs": 1, "seed": seed}})
        return answer["observation"][0], answer["info"]

    def step(self, action):
        answer = self._ask({"step": [action]})
        return (answer["observation"][0], answer["reward"][0], answer["terminated"][0], answer["truncated"][0], answer["info"])

    def close(self):
        if self.bill is None:
            self.bill = self._ask({"close": True})["closed"]
            self.process.stdin.close()
            self.process.wait()


def policy(observation):
    """Pushes the cart to where the pole falls."""
    position, speed, angle, spin = observation
    return int(angle + 0.3 * spin + 0.02 * position + 0.05 * speed > 0)


def main(arguments):
    at = arguments.index("--")
    options = dict(zip(arguments[:at:2], arguments[1:at:2]))
    env = Remote(arguments[at + 1:])
    for episode in range(int(options.get("--episodes", 2))):
        observation, info = env.reset(seed=int(options.get("--seed", 42)) + episode)
        total, over = 0.0, False
        while not over:
            observation, reward, terminated, truncated, info = env.step(policy(observation))
            total, over = total + reward, terminated or truncated
        print("episode", episode, "reward", total)
    env.close()
    print("steps", env.bill["usage"]["steps"], "paid", env.bill["paid_uman"], "uman")
    print("receipt", env.bill["receipt"])


if __name__ == "__main__":
    main(sys.argv[1:])
