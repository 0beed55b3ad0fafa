"""The engine: tensors, primitives, gradients of every order.

Read it in this order, in one sitting:

    core        Primitive: a function of arrays with a rule per input; its call is the one door to the kernels
    tensor      Tensor: an array and its place on the tape
    tape        Node, Edge, Slot, Version: what a call leaves behind, and the walks over it
    rule        how a rule says, by the names of its parameters, what it reads and so what the tape saves
    backward    the walk backward: `backward` adds up `.grad`, `grad` returns gradients
    effect      primitives that write: updates, running statistics, counters
    pullback    a rule stated as a composition of other primitives
    promotion   the table of dtypes
    state       what varies between threads and scopes: is the tape on, who is watching
    hooks       what a registered hook is taken away by
    public      what every public function is decorated with
    face        what type checkers are told of Tensor

One product, from the call to the second derivative. `x` and `w` are leaves that require grad: each has a
Slot, its identity, to which gradients are delivered and which knows the tensor only weakly.

    y = mul(x, w)                                       # x = 3, w = 2

The call (core) finds two tensors of one dtype, hands their arrays to the kernel, and wraps the 6 that comes
back. Both inputs require grad, and the rules are

    mul.rule(input=lambda g, other: mul(g, other),      # reads `other`
             other=lambda g, input: mul(g, input))      # reads `input`

so the tape saves both arrays:

    y: Tensor ──node──► Node "mul"
                          ├─ edges[0]: Edge, saves 3 at version 0 ──► Slot ┄┄► x   (weakly)
                          └─ edges[1]: Edge, saves 2 at version 0 ──► Slot ┄┄► w

    (dx,) = grad(y, x, create_graph=True)               # dx = ∂y/∂x = w = 2

The sweep (backward) puts 1 at y's key, (Node, 0), and takes the nodes from the newest to the oldest. This one
is asked for the gradient of its first input alone, so the first rule runs, on g = 1 and on `other`: a new
tensor of the saved 2, with the Slot of w. The rule is an ordinary call of `mul`, and as `create_graph` left
the tape on, it leaves a node too:

    dx: Tensor ──node──► Node "mul"
                           ├─ edges[0]: Edge of g = 1: it leads nowhere
                           └─ edges[1]: Edge ──► Slot ┄┄► w

    (dxdw,) = grad(dx, w)                               # ∂²y/∂x∂w = 1

The second sweep is the first one again, from this node: the rule of `other` gives mul(1, 1) = 1 for the Slot
of w. Without `create_graph` the tape is off during a sweep, nothing is left behind, and each node that was
walked is freed: a third derivative would need `create_graph` here too, and no other code.
"""
