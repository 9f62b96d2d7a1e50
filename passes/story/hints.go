package story

import (
	"regexp"

	"github.com/ssdc-go/ssdc/passes"
)

// reached says how far a match came, by form and step.
func reached(r passes.Remark) string {
	op, form := split(r.Rule)
	switch {
	case form == "chunked form" && r.Matched <= 1:
		return "sums of decays between tokens were found"
	case form == "chunked form":
		return "its decays were found and followed to where y leaves"
	case form == "Loop or Scan":
		return "the loop and what it carries were found"
	case form == "masked attention" || form == "cumulative sum" || form == "log space" || form == "parallel scan":
		return "the form and its decays were found"
	case form == "unrolled trace":
		return "equal steps were found and rolled up into a loop"
	case form == "LinearAttention" || form == "CausalConvWithState":
		return "the operator was found"
	case op == "bytes":
		return "a quantised operator was found"
	case op == "ssm.CausalConv" && form == "decode step":
		return "the rolled state and the sum over its columns were found"
	case form == "decode step" && r.Matched <= 1:
		return "an input that comes back as an output, changed, was found"
	case form == "decode step":
		return "a state that is decayed and added to was found"
	case op == "ssm.CausalConv" && r.Matched == 0:
		return "a depthwise convolution was found"
	case op == "ssm.CausalConv":
		return "a depthwise convolution and its padding were found"
	case op == "RMSNormalization" || op == "ssm.GatedRMSNorm":
		return "a division by the root of a mean was found"
	case op == "Attention" && r.Matched == 1:
		return "a softmax between two matrix products was found"
	case op == "Attention":
		return "queries, keys, mask and values were found"
	case op == "RotaryEmbedding" || op == "Gelu" || op == "LayerNormalization":
		return "all its parts were found"
	case op == "absorb dt" || op == "absorb softplus" || op == "absorb D" || op == "absorb z":
		return "the scan is fused; this neighbour of it stays outside"
	}
	return ""
}

// advice is a row of the table: when both expressions match, the hint is given.
type advice struct {
	rule, why *regexp.Regexp
	hint      string
}

func on(rule, why, hint string) advice {
	return advice{regexp.MustCompile(rule), regexp.MustCompile(why), hint}
}

// hint is the first that fits; the last rows fit by form alone.
func hint(r *passes.Remark) string {
	for _, a := range hints {
		if a.rule.MatchString(r.Rule) && a.why.MatchString(r.Why) {
			return a.hint
		}
	}
	return "If this is meant to be a recurrence of the form state*decay + update, please report it with this text; " +
		"the model runs as it stands meanwhile."
}

// hints tells what to change, by the reason of the miss. Reasons are matched by
// the words that carry their meaning, so that they may be reworded around them.
var hints = []advice{
	// What surrounds attention.
	on(`^(RotaryEmbedding|Gelu|LayerNormalization)$`, `not what the replacement computes`, "Nothing to do: it has the parts of a known operator and computes something else. It runs as it stands."),
	// Softmax attention.
	on(`^Attention$`, `used elsewhere`, "Let only the result leave the attention: export with output_attentions=False, and drop hooks that read its scores."),
	on(`^Attention$`, `after the mask|after it`, "Apply the scale to the queries or to their product with the keys, before the mask is added."),
	on(`^Attention$`, `hides keys with`, "Hide keys with -inf or the least number of the type (torch.finfo(dtype).min)."),
	on(`^Attention$`, ``, "The attention runs as it stands, with its whole matrix of scores. torch.nn.functional.scaled_dot_product_attention is exported in a form that is fused."),
	// Groups, masks and states of the chunked form.
	on(`chunked`, `tiled over the heads`, "Repeat the groups of B and C per head with repeat_interleave (0,0,1,1), not repeat or tile (0,1,0,1). "+
		"Exports of transformers 4.50 and newer do so. If the weights were trained tiled, reorder the heads of the projections instead."),
	on(`chunked`, `differ across chunks|not carried on`, "Hand the states from chunk to chunk: state[c+1] = exp(sum of the chunk's decays) * state[c] + update[c], "+
		"and add C * exp(running sum) * state[c] to y. Check that the last chunk's states are not cut off before they are used."),
	on(`chunked`, `Softmax|non-linear or normalising`, "Nothing to do if this is softmax attention, which is no scan. If it is meant to be linear, "+
		"take the normalisation or activation out from between the decays and y."),
	on(`chunked`, `expected (their|the) exponential`, "Make the decay between two tokens exp(cumsum[i] - cumsum[j]), and 0 above the diagonal."),
	on(`chunked`, `used outside`, "Let only y and the final state leave the block: drop the output, hook or debug value that reads this tensor, and export again."),
	on(`chunked`, `log decay is .*expected \[B,L,H\]`, "Give one decay per token and head, [batch, length, heads], before the cumulative sum. "+
		"A decay per channel and state (Mamba-1) is recovered from a loop, a trace or a Scan instead."),
	on(`chunked`, `neither a sequence|sequences beside the decay`, "Compute y from x, B, C and the decay alone, all laid out as [batch, length, ...] with the same "+
		"dynamic axes; add residuals, gates and other inputs behind y. Dynamic axes that differ by name (seq, seq_1) hide that two lengths are one: name them alike when exporting."),
	on(`chunked`, `which is not y|never flows together`, "Bring the chunks back to [batch, length, heads, head_dim] before anything else is done with y."),
	on(`chunked`, `not what the replacement computes`, "The graph has the shape of a scan and computes something else. Look for a mask that leaves out the diagonal "+
		"(tril with diagonal=-1 in the last step; y must see its own token), for a window, and for a term that uses another tensor's decays; compare the layer with a plain loop over a few tokens."),

	// Loops.
	on(``, `may stop early`, "Let the loop run over the whole sequence: its condition must stay true. Leave loops that end on a computed condition out of the exported model, or mask instead."),
	on(``, `condition .*not constant true`, "Start the loop with a constant condition (torch.jit.script writes one for a plain for loop)."),
	on(``, `trip count`, "Loop over a length of one of the scanned tensors (range(x.shape[1])) instead of a number that is passed in."),
	on(`decode step`, `is constant and no fused operator`, "Nothing to do: one step of a diagonal recurrence is a product and a sum per entry of the state, which run as one. "+
		"Over a whole sequence (a Loop, a Scan or a trace) the same recurrence becomes a scan. For a fused step, write the update as an outer product of dt*x, along the channels, and B, along N, and read it by C, along N."),
	on(``, `not contracted with C: `, "Contract the new state itself, y = state @ C; put what is done to it first (a norm, tanh, relu, a mean) on y, behind the sum over N, if the model means it so. Else the step stays as it is."),
	on(``, `read before|not the old state|read the new state|not contracted with C`, "Read y from the new state, after this step's token is written: state = decay*state + update; y = state @ C. "+
		"A model that reads the old one (a bonus for the own token, as in RWKV) is another recurrence and stays as it is."),
	on(``, `delta rule|corrects the state`, "The delta rule (DeltaNet, Gated DeltaNet) is no scan with a decay. Export such layers as LinearAttention (opset 27), which ssdc runs as one operator."),
	on(``, `normalises the state`, "Normalise what is read from the state rather than the state itself, if the model allows it; a normalised state cannot be computed in parallel."),
	on(``, `compares the state|chooses by a condition`, "Clips, maxima and conditions on the state make a recurrence sequential. Put them on y, or on the gate before the loop; else the loop stays as it is."),
	on(``, `mixes the entries of the state|mixes the states by a matrix`, "A dense matrix on the state is no elementwise decay. Where the model allows it, diagonalise it once (S4D, LRU) and export the diagonal."),
	on(``, `multiplies the state by what depends on the state|divides by what depends`, "Let decay and update depend on the input alone (as in minGRU). A gate computed from the state makes a GRU or LSTM: "+
		"export those with torch.nn.GRU or LSTM, for which ONNX has operators."),
	on(``, `applies a function that is not linear`, "Move the function (tanh, relu, ...) from the state to y, if the model means it so. A recurrence through it is an RNN: export it with torch.nn.RNN, GRU or LSTM."),
	on(``, `takes the state apart|takes the states apart`, "Keep each state in a tensor of its own, updated as a whole: h = a*h + u. Shift registers (a cache of the last tokens) and states packed together hide the recurrence."),
	on(``, `drive each other|depend on each other|complex`, "States may form a pair only as real and imaginary part of one complex number; otherwise let each depend on itself alone."),
	on(``, `varies along the channels|varies along the contracted axis|differs along the state|one decay per head`, "An SSD has one decay per head and token. A decay per channel and state fits Mamba-1's scan, "+
		"with a state of three axes [batch, channels, N]; a decay per key fits LinearAttention (opset 27), per-key form."),
	on(``, `outer product|varies along channels and N`, "Write the update as an outer product: dt*x along the channels, B along N."),
	on(``, `not shown to be positive`, "Make the decay exp(...) or sigmoid(...) of something, so that it has a logarithm."),
	on(``, `share no factor dt`, "Use one dt in both places: the decay is exp(A*dt) and the update dt*B*x."),
	on(``, `too large to be kept|all steps are an output`, "Contract the state with C in every step (y = state @ C) and give out y, not the states of all steps."),
	on(``, `writes at places|writes by|inserts in the middle|reads the buffer|read while it is written|list|uses its results|not one element`, "Collect outputs in order: y[:, t] = ..., or a list that is appended to and stacked after the loop."),
	on(``, `reads elements t|moves with time|not shown to exist`, "Let step t read token t alone. Shift or pad sequences before the loop, where a convolution or a cumulative sum can do it at once."),
	on(``, `no recurrence|does not depend on the old one`, "Nothing to do: the loop carries no state that is decayed and added to."),
	on(``, `no state\*decay`, "Write the step as state*decay + update, in one product and one sum."),
	on(`unrolled`, ``, "Export a loop that is not traced: torch.jit.script, or torch's scan operator; or export the parallel form of the layer."),

	// Parallel forms of whole sequences.
	on(`masked attention`, `see later ones`, "Mask the future: entries above the diagonal must be 0 (torch.tril)."),
	on(`masked attention`, `diagonal of the mask`, "Let each token see itself with weight 1: the mask is decay^(i-j), 1 where i = j."),
	on(`masked attention`, `joins the scores`, "Multiply q k^T by the mask, elementwise. An added mask belongs before a softmax, which makes other attention."),
	on(`masked attention`, `below its diagonal`, "Make the mask a power of one positive decay per head, decay^(i-j)."),
	on(`masked attention`, `not what the replacement computes`, "The mask must be a product of decays between two tokens, decay^(i-j) with one decay per head; a band, a hyperbola or decays per row are other attention."),
	on(`cumulative sum`, `from the end or leaves`, "Sum from the first token on and include the token itself: cumsum(dim), neither reverse nor exclusive."),
	on(`masked attention|parallel scan|log space|quadratic|cumulative sum`, `enter between|enters between`, "Combine pairs as (a2*a1, a2*u1 + u2), with the update alone added in; scores belong behind the product of decays."),
	on(`parallel scan|log space|cumulative sum`, ``, "Compare the sweep with a plain loop over a few tokens: each level must combine the pair of the right distance as (a2*a1, a2*u1 + u2), and log-space forms must subtract the sums they added."),
	on(`chunked`, `enter between|enters between`, "Multiply C B^T with the decays elementwise behind the exponential, with one decay per head."),

	// Neighbours.
	on(`absorb dt`, `two time steps`, "Use the same dt in the decay and for the input, if the model means it; otherwise nothing is lost but one product."),
	on(`absorb D`, ``, "Let D multiply the x that enters the scan, before dt is multiplied in."),
	on(`absorb z`, `sigmoid`, "Gate with SiLU, z*sigmoid(z), if the model means it; a sigmoid gate stays a node of its own."),
	on(`absorb`, ``, "Nothing to do: the scan is fused, this neighbour runs as a node of its own."),

	// Convolutions and norms.
	on(`CausalConv`, `padding in front|auto_pad|not that of a causal|no Slice`, "Pad on the left alone by kernel-1: F.pad(x, (k-1, 0)), or Conv1d(padding=k-1) whose result is cut to [..., :length]."),
	on(`CausalConv`, `strides|dilations`, "Only a convolution with stride 1 and dilation 1 can carry its state from token to token; nothing to do if that is what the model wants."),
	on(`CausalConv`, ``, "Roll the state by one column per token, write the new token last, and multiply with the weight in the same order."),
	on(`Norm`, `groups of`, "Write the grouped norm as GatedRMSNorm of Mamba-2: x*silu(z) first, then the norm over each group, then the weight."),
	on(`Norm`, `last axis`, "Normalise over the last axis alone (mean over dim=-1, keepdim=True)."),
	on(`Norm`, `square`, "Take the mean of the square of the very tensor that is divided."),
	on(`Norm`, ``, "Write the norm as x * rsqrt(mean(x^2) + eps) * weight over the last axis."),
	on(`LinearAttention`, `query heads`, "Give one query head per state (repeat keys and values), or leave it: ssdc runs LinearAttention as it stands."),
	on(`LinearAttention`, ``, "Nothing to do: ssdc runs LinearAttention as one operator in this form as well."),

	on(`^bytes`, ``, "Results are right as they are: this node runs on floats. To keep it on bytes, quantise its input and output with one scale and zero point, and the bias as int32 in units of both scales."),

	// By form, when the reason is a certificate's.
	on(`Loop or Scan`, `not what the replacement computes`, "The loop reads like a scan and computes something else: check in which order the axes of the state are contracted and that every operand is indexed by the step."),
	on(`decode step`, `not what the replacement computes`, "The step reads like a scan's and computes something else: compare it with state = exp(A*dt)*state + dt*x*B; y = state @ C + D*x."),
	on(``, `cannot (be )?evaluate|no certificate`, "The region could not be evaluated at the lengths that were tried, so nothing was proven: export with symbolic lengths, or with one length throughout (--bind)."),
}
