BsiJ
ף<