// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/torch.h>

#include <typeinfo>

namespace torch_accelerated {

// The fields of the options and parameter states of LibTorch's optimizers, each shown to `visit`
// under its name: what a checkpoint writes and reads.

template <class Visit>
void visit_fields(torch::optim::SGDOptions& options, Visit&& visit) {
  visit("lr", options.lr());
  visit("momentum", options.momentum());
  visit("dampening", options.dampening());
  visit("weight_decay", options.weight_decay());
  visit("nesterov", options.nesterov());
}

template <class Visit>
void visit_fields(torch::optim::SGDParamState& state, Visit&& visit) {
  visit("momentum_buffer", state.momentum_buffer());
}

/// Adam and AdamW.
template <class Options, class Visit>
  requires requires(Options& options) { options.amsgrad(); }
void visit_fields(Options& options, Visit&& visit) {
  visit("lr", options.lr());
  visit("betas", options.betas());
  visit("eps", options.eps());
  visit("weight_decay", options.weight_decay());
  visit("amsgrad", options.amsgrad());
}

template <class State, class Visit>
  requires requires(State& state) { state.max_exp_avg_sq(); }
void visit_fields(State& state, Visit&& visit) {
  visit("step", state.step());
  visit("exp_avg", state.exp_avg());
  visit("exp_avg_sq", state.exp_avg_sq());
  visit("max_exp_avg_sq", state.max_exp_avg_sq());
}

template <class Visit>
void visit_fields(torch::optim::RMSpropOptions& options, Visit&& visit) {
  visit("lr", options.lr());
  visit("alpha", options.alpha());
  visit("eps", options.eps());
  visit("weight_decay", options.weight_decay());
  visit("momentum", options.momentum());
  visit("centered", options.centered());
}

template <class Visit>
void visit_fields(torch::optim::RMSpropParamState& state, Visit&& visit) {
  visit("step", state.step());
  visit("square_avg", state.square_avg());
  visit("momentum_buffer", state.momentum_buffer());
  visit("grad_avg", state.grad_avg());
}

template <class Visit>
void visit_fields(torch::optim::AdagradOptions& options, Visit&& visit) {
  visit("lr", options.lr());
  visit("lr_decay", options.lr_decay());
  visit("weight_decay", options.weight_decay());
  visit("initial_accumulator_value", options.initial_accumulator_value());
  visit("eps", options.eps());
}

template <class Visit>
void visit_fields(torch::optim::AdagradParamState& state, Visit&& visit) {
  visit("step", state.step());
  visit("sum", state.sum());
}

template <class Visit>
void visit_fields(torch::optim::LBFGSOptions& options, Visit&& visit) {
  visit("lr", options.lr());
  visit("max_iter", options.max_iter());
  visit("max_eval", options.max_eval());
  visit("tolerance_grad", options.tolerance_grad());
  visit("tolerance_change", options.tolerance_change());
  visit("history_size", options.history_size());
  visit("line_search_fn", options.line_search_fn());
}

template <class Visit>
void visit_fields(torch::optim::LBFGSParamState& state, Visit&& visit) {
  visit("func_evals", state.func_evals());
  visit("n_iter", state.n_iter());
  visit("t", state.t());
  visit("prev_loss", state.prev_loss());
  visit("d", state.d());
  visit("H_diag", state.H_diag());
  visit("prev_flat_grad", state.prev_flat_grad());
  visit("old_dirs", state.old_dirs());
  visit("old_stps", state.old_stps());
  visit("ro", state.ro());
  visit("al", state.al());
}

/// LibTorch's types of one optimizer.
template <class Optim, class Options, class ParamState>
struct OptimizerTypes {
  using OptimType = Optim;
  using OptionsType = Options;
  using ParamStateType = ParamState;
};

// Calls `body` with the types of `optimizer`; whether it is one of LibTorch's own.
template <class Body>
bool with_types(const torch::optim::Optimizer& optimizer, Body&& body) {
  using namespace torch::optim;
  const auto as = [&](auto types) {
    using OptimType = typename decltype(types)::OptimType;
    if (typeid(optimizer) != typeid(OptimType)) return false;  // another may keep more
    body(types);
    return true;
  };
  return as(OptimizerTypes<SGD, SGDOptions, SGDParamState>()) ||
         as(OptimizerTypes<Adam, AdamOptions, AdamParamState>()) ||
         as(OptimizerTypes<AdamW, AdamWOptions, AdamWParamState>()) ||
         as(OptimizerTypes<RMSprop, RMSpropOptions, RMSpropParamState>()) ||
         as(OptimizerTypes<Adagrad, AdagradOptions, AdagradParamState>()) ||
         as(OptimizerTypes<LBFGS, LBFGSOptions, LBFGSParamState>());
}

}  // namespace torch_accelerated
