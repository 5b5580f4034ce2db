# of agents that share a Consul agent with others: what they do not see they do not take for left-overs of theirs
agent_prefix "" {
  policy = "read"
}
node_prefix "" {
  policy = "read"
}
