BswJ
ף<