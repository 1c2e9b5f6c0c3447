-- Purpose: the agents that tasks may name. Parameters: none. Zero rows: no node has started yet.
SELECT name, backend, default_model FROM agentpool.agents ORDER BY name
