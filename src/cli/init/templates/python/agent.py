import sys
from pathlib import Path

# The Switchyard SDK; one that is installed goes first.
sys.path.append(str(Path(__file__).resolve().parent / "vendor"))

from switchyard import Agent  # noqa: E402

from handler import handle  # noqa: E402

{{registry}}
agent = Agent(name="{{name}}", type="{{type}}")
{{no-registry}}
agent = Agent(name="{{name}}", type="{{type}}", register=False)
{{end}}
agent.task("{{capability}}")(handle)

if __name__ == "__main__":
    agent.run()
